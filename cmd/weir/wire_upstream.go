package main

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/weirmq/weir/appliance/metric"
	"github.com/weirmq/weir/bridge/upstream"
	firmwareconfig "github.com/weirmq/weir/firmware-config"
)

// startUpstream joins the MQTT brokers that the site has; they may be away for days.
func (b *box) startUpstream() error {
	if len(b.cfg.Upstream) == 0 {
		return nil
	}
	var links upstreamLinks
	for _, u := range b.cfg.Upstream {
		o, err := upstreamOptions(&u, b.cfg.Site, b.log)
		if err != nil {
			return errors.Join(err, links.close())
		}
		o.Local = b.devices.Dial
		link, err := upstream.Start(o)
		if err != nil {
			return errors.Join(err, links.close())
		}
		links = append(links, link)
	}
	b.add(part{name: "upstream", status: func() any { return links.status() }, source: links, close: links.close})
	return nil
}

// upstreamLinks are the links of one box.
type upstreamLinks []*upstream.Link

func (ls upstreamLinks) close() error {
	var errs []error
	for _, l := range ls {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

func (ls upstreamLinks) status() []upstream.Status {
	out := make([]upstream.Status, len(ls))
	for i, l := range ls {
		out[i] = l.Status()
	}
	return out
}

// Metrics implements metric.Source.
func (ls upstreamLinks) Metrics(w *metric.Writer) { upstream.Metrics(w, ls) }

func upstreamOptions(u *firmwareconfig.Upstream, site string, log *slog.Logger) (upstream.Options, error) {
	o := upstream.Options{
		Name: u.Name, URL: u.URL, ClientID: u.ClientID, Site: site, Username: u.Username, Password: u.Password,
		In: upstreamTopics(u.In), Out: upstreamTopics(u.Out), MaxInFlight: u.MaxInflight,
		KeepAlive: time.Duration(u.KeepAlive), MaxBackoff: time.Duration(u.RetryMax), Log: log,
	}
	var err error
	if o.TLS, err = upstream.TLS(u.CA, u.Cert, u.Key); err != nil {
		return o, fmt.Errorf("upstream %s: %w", u.Name, err)
	}
	return o, nil
}

func upstreamTopics(ts []firmwareconfig.UpstreamTopic) (out []upstream.Subscription) {
	for _, t := range ts {
		out = append(out, upstream.Subscription{Filter: t.Filter, QoS: byte(t.QoS), Local: t.Local, Remote: t.Remote})
	}
	return out
}
