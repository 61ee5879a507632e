package site

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxStatus bounds the status document, in bytes.
const maxStatus = 16 << 20

// Status is what the testbed reads of GET /v1/status. It is declared here anew,
// as a foreign client would, so that a changed field is noticed.
type Status struct {
	Version   string    `json:"version"`
	Site      string    `json:"site"`
	Ready     bool      `json:"ready"`
	Addresses Addresses `json:"addresses"`
	Totals    struct {
		DevicesConnected int64 `json:"devices_connected"`
		MessagesIn       int64 `json:"messages_in"`
		MessagesAcked    int64 `json:"messages_acked"`
		RecordsIn        int64 `json:"records_in"`
		Transformed      int64 `json:"transformed"`
		Mirrored         int64 `json:"mirrored"`
		MirrorLag        int64 `json:"mirror_lag"`
		DeadLetters      int64 `json:"dead_letters"`
	} `json:"totals"`
	Disk struct {
		LogBytes  int64 `json:"log_bytes"`
		FreeBytes int64 `json:"free_bytes"`
	} `json:"disk"`
	Topics []struct {
		Name    string `json:"name"`
		Records int64  `json:"records"`
	} `json:"topics"`
	Plugins []struct {
		Name        string `json:"name"`
		State       string `json:"state"`
		RecordsIn   int64  `json:"records_in"`
		RecordsOut  int64  `json:"records_out"`
		DeadLetters int64  `json:"dead_letters"`
		Lag         int64  `json:"lag"`
		Error       string `json:"error"`
	} `json:"plugins"`
	Flows []struct {
		Name     string `json:"name"`
		State    string `json:"state"`
		Mirrored int64  `json:"mirrored"`
		Lag      int64  `json:"lag"`
		Error    string `json:"error"`
	} `json:"flows"`
}

// client does not keep connections: the process behind an address changes.
var client = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// Get reads a path of the HTTP listener.
func (s *Site) Get(ctx context.Context, path string) (code int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Addresses().HTTP+path, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("site: %w", err)
	}
	if s.opts.User != "" {
		req.SetBasicAuth(s.opts.User, s.opts.Password)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("site: %w", err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxStatus))
	return resp.StatusCode, body, err
}

func (s *Site) ready(ctx context.Context) bool {
	code, _, err := s.Get(ctx, "/readyz")
	return err == nil && code == http.StatusOK
}

// Metric reads one figure of GET /metrics that has no labels.
func (s *Site) Metric(ctx context.Context, name string) (float64, error) {
	code, body, err := s.Get(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(body)) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(text), 64)
		}
	}
	return 0, fmt.Errorf("site: GET /metrics answers %d without %s", code, name)
}

// Status reads GET /v1/status.
func (s *Site) Status(ctx context.Context) (Status, error) {
	var st Status
	code, body, err := s.Get(ctx, "/v1/status")
	if err != nil {
		return st, err
	}
	if code != http.StatusOK {
		return st, fmt.Errorf("site: GET /v1/status answers %d: %.200s", code, body)
	}
	if err := json.Unmarshal(body, &st); err != nil {
		return st, fmt.Errorf("site: GET /v1/status: %w", err)
	}
	return st, nil
}
