// Command weir is the whole product: the appliance (weir serve) and everything
// an operator does with it. Each noun has a file of its own; run.go alone knows
// all parts of the appliance.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

// version is set by the linker (see Makefile).
var version string

// cli is the command line. Field order is the order of the help.
type cli struct {
	JSON    bool             `help:"Print JSON instead of text." group:"Everywhere:"`
	Version kong.VersionFlag `help:"Print the version and exit." group:"Everywhere:"`

	Init    initCmd    `cmd:"" help:"Make certificates, the first user and a configuration for the network."`
	Serve   serveCmd   `cmd:"" help:"Run the appliance."`
	Status  statusCmd  `cmd:"" help:"Show what a running appliance does."`
	Topic   topicCmd   `cmd:"" help:"List, create, delete and describe topics."`
	Produce produceCmd `cmd:"" help:"Write records to a topic, from arguments or stdin."`
	Consume consumeCmd `cmd:"" help:"Read records of a topic."`
	Group   groupCmd   `cmd:"" help:"List, describe, seek and delete consumer groups."`
	User    userCmd    `cmd:"" help:"Add, list and delete users; set passwords."`
	ACL     aclCmd     `cmd:"" name:"acl" help:"Add, list and delete access rules."`
	Device  deviceCmd  `cmd:"" help:"Make, list, rotate and remove the identities of devices."`
	Cert    certCmd    `cmd:"" help:"Issue certificates with the authority that weir init made."`
	Plugin  pluginCmd  `cmd:"" help:"Deploy, list and remove WASM plugins."`
	Mirror  mirrorCmd  `cmd:"" help:"Show mirror flows."`
	Fleet   fleetCmd   `cmd:"" help:"Show the sites of the fleet."`
	Clock   clockCmd   `cmd:"" help:"Show how far the machine's clock is trusted; say that it is right."`
	Config  configCmd  `cmd:"" help:"Check and show the configuration; describe and alter configs of topics and brokers."`
	Log     logCmd     `cmd:"" help:"Look into segment files on disk."`
	Doctor  doctorCmd  `cmd:"" help:"Check this machine and the appliance on it."`
	Bench   benchCmd   `cmd:"" help:"Simulate a fleet of devices; play the demo."`
}

// session is what every command gets.
type session struct {
	ctx      context.Context
	in       io.Reader
	out, err io.Writer
	json     bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := &session{ctx: ctx, in: os.Stdin, out: os.Stdout, err: os.Stderr}
	os.Exit(runCLI(s, os.Args[1:]))
}

// runCLI parses args, runs the command and returns the exit code.
func runCLI(s *session, args []string) int {
	var c cli
	exit := -1
	parser, err := kong.New(&c,
		kong.Name("weir"),
		kong.Description("MQTT in, a durable Kafka log on disk, Kafka wire out, WASM transforms, a mirror to the core."),
		kong.Vars{"version": versionText(), "position": positionHelp, "layout": layoutHelp},
		kong.Writers(s.out, s.err),
		kong.Exit(func(code int) { exit = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.UsageOnError(),
		kong.WithHyphenPrefixedParameters(true), // --from -10
	)
	if err != nil {
		panic("weir: internal error: " + err.Error())
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	kctx, err := parser.Parse(args)
	if exit >= 0 {
		return exit // --help and --version have printed what they print
	}
	if err != nil {
		fmt.Fprintf(s.err, "weir: %s; see weir %s\n", err, helpFor(args))
		return exitUsage
	}
	s.json = c.JSON
	if err := kctx.Run(s); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(s.err, "weir: "+strings.ReplaceAll(err.Error(), "\n", "\nweir: "))
		return exitCode(err)
	}
	return exitOK
}

// helpFor names the help page nearest to what was typed.
func helpFor(args []string) string {
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		return args[0] + " --help"
	}
	return "--help"
}

// versionText falls back to what the Go toolchain recorded, for go install.
func versionText() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version
}
