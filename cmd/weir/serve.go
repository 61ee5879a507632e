package main

import (
	"errors"
	"fmt"
	"log/slog"

	firmwareconfig "github.com/weirmq/weir/firmware-config"
)

type serveCmd struct {
	Data        string   `placeholder:"DIR" help:"Data folder (data)."`
	Kafka       []string `placeholder:"HOST:PORT" help:"Kafka listener (127.0.0.1:9092); SASL_SSL:// and so on before it protect it."`
	MQTT        []string `name:"mqtt" placeholder:"HOST:PORT" help:"MQTT listener (127.0.0.1:1883); mqtts:// before it encrypts."`
	HTTP        []string `name:"http" placeholder:"HOST:PORT" help:"Console, metrics and admin listener (127.0.0.1:8080); https:// before it encrypts. Port 0 picks one, for each listener."`
	Config      string   `type:"path" placeholder:"FILE" help:"Configuration; flags win over it."`
	Site        string   `placeholder:"NAME" help:"Name of this site (the host's name)."`
	InsecureLAN bool     `name:"insecure-lan" help:"Accept listening beyond loopback without TLS and passwords."`
}

func (c *serveCmd) Run(s *session) error {
	cfg, err := c.configuration()
	if err != nil {
		return err
	}
	return run(s.ctx, cfg, newLogger(s, cfg.Log), c.configuration)
}

// configuration lays the flags over the file and checks the outcome again.
func (c *serveCmd) configuration() (firmwareconfig.Config, error) {
	cfg, err := c.load()
	if err != nil {
		return cfg, err
	}
	for _, flag := range []struct {
		value string
		key   *string
	}{
		{c.Data, &cfg.Data.Dir}, {c.Site, &cfg.Site},
	} {
		if flag.value != "" {
			*flag.key = flag.value
		}
	}
	if len(c.HTTP) > 0 {
		cfg.HTTP.Listen = c.HTTP
	}
	if len(c.Kafka) > 0 {
		cfg.Kafka.ListenAt(c.Kafka)
	}
	if len(c.MQTT) > 0 {
		cfg.MQTT.ListenAt(c.MQTT)
	}
	if cfg.Site, err = siteName(&cfg); err != nil {
		return cfg, err
	}
	if err := errors.Join(cfg.Validate(), checkParts(&cfg)); err != nil {
		return cfg, failf(exitUsage, "%w", err)
	}
	return cfg, nil
}

// load lets --insecure-lan apply to what the file says as well, which Load
// would refuse by itself.
func (c *serveCmd) load() (firmwareconfig.Config, error) {
	if !c.InsecureLAN {
		return loadConfig(c.Config)
	}
	cfg, err := firmwareconfig.LoadInsecure(c.Config)
	if err != nil {
		return cfg, failf(exitUsage, "%w", err)
	}
	return cfg, nil
}

func newLogger(s *session, l firmwareconfig.Log) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		panic(fmt.Sprintf("weir: internal error: log level %q passed the checks", l.Level))
	}
	opts := &slog.HandlerOptions{Level: level}
	if l.Format == "json" || s.json {
		return slog.New(slog.NewJSONHandler(s.err, opts))
	}
	return slog.New(slog.NewTextHandler(s.err, opts))
}
