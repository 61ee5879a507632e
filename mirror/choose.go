package mirror

import (
	"path"
	"strings"
)

const (
	positionsPrefix = "weir-mirror-positions."
	positionsSuffix = ".internal"
)

// positionsTopic is the topic at the target that holds the anchors of a site.
func positionsTopic(site string) string { return positionsPrefix + site + positionsSuffix }

// choice is which local topics a flow mirrors and what they are called there.
type choice struct {
	site             string
	include, exclude []string
	rename           string
}

// takes reports whether the topic is mirrored. Internal topics, by their flag
// or by Kafka's and MirrorMaker's naming, are taken only when named in full.
// Topics that another site mirrors into this cluster are taken only by a
// pattern that begins with that site's name: "*" on both ends of a pair of
// flows would otherwise send every record round for ever.
func (c *choice) takes(t Topic, inbound []string) bool {
	for _, g := range c.exclude {
		if ok, _ := path.Match(g, t.Name); ok {
			return false
		}
	}
	hidden, from := t.Internal || internalName(t.Name), ""
	for _, site := range inbound {
		if strings.HasPrefix(t.Name, site+".") {
			from = site + "."
		}
	}
	for _, g := range c.include {
		if g == t.Name {
			return true
		}
		if ok, _ := path.Match(g, t.Name); ok && !hidden && strings.HasPrefix(g, from) {
			return true
		}
	}
	return false
}

// inboundSites are the sites that mirror into this cluster: they keep their
// positions here.
func inboundSites(topics []Topic) (sites []string) {
	for _, t := range topics {
		if site, ok := strings.CutPrefix(t.Name, positionsPrefix); ok {
			if site, ok = strings.CutSuffix(site, positionsSuffix); ok {
				sites = append(sites, site)
			}
		}
	}
	return sites
}

func internalName(name string) bool {
	return strings.HasPrefix(name, "__") || strings.HasSuffix(name, ".internal") || strings.HasSuffix(name, "-internal")
}

func (c *choice) remoteName(topic string) string {
	return strings.NewReplacer("{site}", c.site, "{topic}", topic).Replace(c.rename)
}
