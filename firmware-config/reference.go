package firmwareconfig

import (
	"fmt"
	"strings"
)

// Reference is docs/configuration.md: the page for people of the table of keys.
func Reference() string {
	var b strings.Builder
	b.WriteString(referenceHead)
	for _, k := range Keys() {
		top := !strings.ContainsAny(k.Path, ".[")
		switch {
		case k.Section && top:
			fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| key | allowed | default | |\n|---|---|---|---|\n", k.Path, k.Doc)
		case k.Section:
			fmt.Fprintf(&b, "| **%s** | | | %s |\n", relative(k.Path), cell(k.Doc))
		default:
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", relative(k.Path), k.Type, defaultCell(k.Default), cell(k.Doc))
		}
	}
	b.WriteString(referenceProfiles)
	for _, name := range Profiles() {
		text, err := ProfileText(name)
		if err != nil {
			panic("firmwareconfig: internal error: " + err.Error())
		}
		fmt.Fprintf(&b, "\n### %s\n\n```yaml\n%s```\n", name, text)
	}
	return b.String()
}

const referenceHead = `# Configuration

Weir needs no configuration: without a file it serves on loopback with the board profile that fits the machine. What you change goes into one file:

    weir serve --config weir.yaml

Three layers lie over one another: the defaults, the [board profile](#board-profiles), the file; the flags of ` + "`weir serve`" + ` win over all.
` + "`weir config check FILE`" + ` names every mistake with its line and the nearest key, ` + "`weir config show`" + ` prints everything in force, and that output is itself a valid file.

Sizes are bytes or have a unit (64KiB, 16MiB, 1GB); durations are written 250ms, 20s, 1h30m. Broker keys bear Kafka's names.

**SIGHUP** has the file read again: changed ` + "`topics`, `routes`, `downlink` and `upstream`" + ` are in force at once while devices stay connected (see [bridge.md](bridge.md)); what else has
changed needs a restart, and the log and ` + "`weir status`" + ` name the keys. A file with a mistake changes nothing, and both say so.

**Listening beyond loopback** needs TLS and a login: ` + "`weir init`" + ` makes certificates, the first user and a file that says so, see [security.md](security.md).
Without them it takes ` + "`insecure_lan: true`" + ` (or ` + "`--insecure-lan`" + `), which the console shows in red.

This page is generated from the table of keys (` + "`make docs`" + `).

| key | allowed | default | |
|---|---|---|---|
`

const referenceProfiles = `
## Board profiles

` + "`profile: auto`" + ` takes pi-zero-2 below 900 MB of memory, gateway-x86 on amd64 with 3 GB or more, and pi-4 otherwise. A profile is a file like yours:
`

// relative drops the section, which the heading names: kafka.listen is listen.
func relative(path string) string {
	top, rest, ok := strings.Cut(path, ".")
	if list := strings.TrimSuffix(top, "[]"); ok && list != top {
		return "- " + rest
	}
	if !ok {
		return path
	}
	return rest
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

func defaultCell(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}
