package auth

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// NameRules make a user's name of a certificate's subject, in Kafka's syntax
// (ssl.principal.mapping.rules). The zero value takes the whole subject.
type NameRules struct {
	rules []nameRule
}

type nameRule struct {
	pattern *regexp.Regexp // nil: DEFAULT
	replace string
	letters byte // 'L', 'U' or 0
}

var replacement = regexp.MustCompile(`\$(\d+)`)

// ParseNameRules reads rules separated by commas or given one by one, each of them
// DEFAULT, which takes the whole subject, or RULE:pattern/replacement/[L|U], which
// replaces a subject that the pattern matches from end to end and puts the outcome in
// lower or upper case. The first that matches wins. \/ stands for a slash.
func ParseNameRules(text string) (NameRules, error) {
	var n NameRules
	for rest := strings.TrimSpace(text); rest != ""; rest = strings.TrimSpace(strings.TrimPrefix(rest, ",")) {
		if after, ok := strings.CutPrefix(rest, "DEFAULT"); ok {
			n.rules, rest = append(n.rules, nameRule{}), strings.TrimSpace(after)
			if rest != "" && rest[0] != ',' {
				return n, fmt.Errorf("name rule: %q follows DEFAULT, want a comma", rest)
			}
			continue
		}
		body, ok := strings.CutPrefix(rest, "RULE:")
		if !ok {
			return n, fmt.Errorf("name rule %q is neither DEFAULT nor RULE:pattern/replacement/", rest)
		}
		pattern, after, ok1 := cutSlash(body)
		replace, after, ok2 := cutSlash(after)
		if !ok1 || !ok2 {
			return n, fmt.Errorf("name rule %q needs two slashes: RULE:pattern/replacement/", rest)
		}
		re, err := regexp.Compile(`^(?:` + pattern + `)$`)
		if err != nil {
			return n, fmt.Errorf("name rule %q: %w", rest, err)
		}
		rule := nameRule{pattern: re, replace: replacement.ReplaceAllString(strings.ReplaceAll(replace, "$$", "$"), "$${$1}")}
		if after != "" && (after[0] == 'L' || after[0] == 'U') {
			rule.letters, after = after[0], after[1:]
		}
		if after = strings.TrimSpace(after); after != "" && after[0] != ',' {
			return n, fmt.Errorf("name rule: %q follows the last slash, want L, U or a comma", after)
		}
		n.rules, rest = append(n.rules, rule), after
	}
	return n, nil
}

// cutSlash cuts at the first slash that no backslash stands before.
func cutSlash(s string) (before, after string, ok bool) {
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == '/':
			s = s[:i] + s[i+1:]
		case s[i] == '/':
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// Apply makes a user's name of the certificate's subject (RFC 2253, as in
// "CN=pump-017,OU=plant 7").
func (n NameRules) Apply(cert *x509.Certificate) (string, error) {
	subject, err := subjectOf(cert)
	if err != nil {
		return "", err
	}
	return n.name(subject)
}

func (n NameRules) name(subject string) (string, error) {
	name := ""
	if len(n.rules) == 0 {
		name = subject
	}
	for _, r := range n.rules {
		if r.pattern == nil {
			name = subject
			break
		}
		if r.pattern.MatchString(subject) {
			name = r.pattern.ReplaceAllString(subject, r.replace)
			switch r.letters {
			case 'L':
				name = strings.ToLower(name)
			case 'U':
				name = strings.ToUpper(name)
			}
			break
		}
	}
	if name == "" {
		return "", fmt.Errorf("no rule makes a name of the certificate's subject %.200q", subject)
	}
	return name, checkUserName(name)
}

// subjectOf is the subject in the order it was written, which the fields of
// pkix.Name do not keep.
func subjectOf(cert *x509.Certificate) (string, error) {
	var seq pkix.RDNSequence
	rest, err := asn1.Unmarshal(cert.RawSubject, &seq)
	if err != nil || len(rest) > 0 {
		return "", errors.New("the certificate's subject cannot be read")
	}
	return seq.String(), nil
}
