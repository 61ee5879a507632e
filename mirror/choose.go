package mirror

import (
	"path"
	"strings"
)

const positionsPrefix = "weir-mirror-positions."

// positionsTopic is the topic at the target that holds the anchors of a site.
func positionsTopic(site string) string { return positionsPrefix + site + ".internal" }

// choice is which local topics a flow mirrors and what they are called there.
type choice struct {
	site             string
	include, exclude []string
	rename           string
}

// takes reports whether the topic is mirrored. Internal topics, by their flag
// or by Kafka's and MirrorMaker's naming, are taken only when named in full.
func (c *choice) takes(t Topic) bool {
	for _, g := range c.exclude {
		if ok, _ := path.Match(g, t.Name); ok {
			return false
		}
	}
	hidden := t.Internal || internalName(t.Name)
	for _, g := range c.include {
		if g == t.Name {
			return true
		}
		if ok, _ := path.Match(g, t.Name); ok && !hidden {
			return true
		}
	}
	return false
}

func internalName(name string) bool {
	return strings.HasPrefix(name, "__") || strings.HasSuffix(name, ".internal") || strings.HasSuffix(name, "-internal")
}

func (c *choice) remoteName(topic string) string {
	return strings.NewReplacer("{site}", c.site, "{topic}", topic).Replace(c.rename)
}
