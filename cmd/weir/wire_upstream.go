package main

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/weirmq/weir/appliance/metric"
	"github.com/weirmq/weir/bridge/upstream"
	firmwareconfig "github.com/weirmq/weir/firmware-config"
)

// startUpstream joins the MQTT brokers that the site has; they may be away for days.
func (b *box) startUpstream() error {
	options, err := b.upstreamAll(&b.cfg)
	if err != nil {
		return err
	}
	return b.joinUpstream(&b.cfg, options)
}

// upstreamAll is the options of all links of a configuration. It starts none.
func (b *box) upstreamAll(cfg *firmwareconfig.Config) (all []upstream.Options, err error) {
	for i := range cfg.Upstream {
		o, err := upstreamOptions(&cfg.Upstream[i], b.cfg.Site, b.log)
		if err != nil {
			return nil, err
		}
		if err := o.Validate(); err != nil {
			return nil, err
		}
		o.Local = b.devices.Dial
		all = append(all, o)
	}
	return all, nil
}

// joinUpstream has the links of a configuration, and no others. One that has not changed
// goes on; one that has begins anew, and its sessions at both brokers have what it missed.
func (b *box) joinUpstream(cfg *firmwareconfig.Config, options []upstream.Options) error {
	if len(options) > 0 && b.links == nil {
		b.links = new(upstreamLinks)
		b.add(part{name: "upstream", status: func() any { return b.links.status() }, source: b.links, close: b.links.close})
	}
	if b.links == nil {
		return nil
	}
	return b.links.replace(cfg.Upstream, options)
}

// upstreamLinks are the links of one box.
type upstreamLinks struct {
	mu sync.Mutex
	of []upstreamLink
}

type upstreamLink struct {
	*upstream.Link
	as firmwareconfig.Upstream
}

// replace ends the links that are not among configs and starts those that are new.
func (ls *upstreamLinks) replace(configs []firmwareconfig.Upstream, options []upstream.Options) error {
	old := ls.all()
	var now []upstreamLink
	for _, l := range old {
		if slices.ContainsFunc(configs, func(u firmwareconfig.Upstream) bool { return reflect.DeepEqual(u, l.as) }) {
			now = append(now, l)
		} else if err := l.Close(); err != nil {
			return err
		}
	}
	var errs []error
	for i, u := range configs {
		if slices.ContainsFunc(now, func(l upstreamLink) bool { return l.as.Name == u.Name }) {
			continue
		}
		link, err := upstream.Start(options[i])
		if errs = append(errs, err); err == nil {
			now = append(now, upstreamLink{link, u})
		}
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.of = now
	return errors.Join(errs...)
}

func (ls *upstreamLinks) all() []upstreamLink {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return slices.Clone(ls.of)
}

func (ls *upstreamLinks) close() error {
	var errs []error
	for _, l := range ls.all() {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

func (ls *upstreamLinks) status() []upstream.Status {
	out := []upstream.Status{}
	for _, l := range ls.all() {
		out = append(out, l.Status())
	}
	return out
}

// Metrics implements metric.Source.
func (ls *upstreamLinks) Metrics(w *metric.Writer) {
	var links []*upstream.Link
	for _, l := range ls.all() {
		links = append(links, l.Link)
	}
	upstream.Metrics(w, links)
}

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
