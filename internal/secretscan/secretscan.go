// Package secretscan finds values that look like secrets before they are kept anywhere: in manifests and in quick edits.
//
// It knows the rules of gitleaks (github.com/gitleaks/gitleaks, MIT License) and what those miss: passwords in URLs and connection
// strings, literals under names such as password, token and api_key, private keys, and long random texts. What a secret reference
// holds is no secret.
//
// Guarantees: a finding says where the value is, which rule it broke and what to write instead, and never the value itself; a value
// is let through only where its manifest lists it under metadata.notSecret, by path and fingerprint, with a reason. It is pure.
//
// It is no proof: a short secret under an innocent name is not found. It links the rules of gitleaks and their reader, about 25
// packages of others, and takes a tenth of a second when it is first used.
package secretscan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/lockstep-dev/lockstep/internal/registry"
)

// A Finding is a value that looks like a secret.
type Finding struct {
	Key         string         // manifest, or resource of a quick edit
	Path        string         // JSON pointer into the manifest, or into the value of a quick edit
	Place       registry.Place // of a manifest
	Name        bool           // it is the name of a member of what stands at Path
	Rule        string         // what it looks like
	Fingerprint string         // for metadata.notSecret
}

// Remedy says what to do about findings.
const Remedy = `write a reference, as in {"$secret": {"ref": "env://NAME", "version": "1"}}, which only the agent resolves; or, where it is no secret, list it in its manifest under metadata.notSecret with path, fingerprint and reason`

func (f Finding) String() string {
	where := f.Key
	if f.Path != "" {
		where += " at " + f.Path
	}
	return fmt.Sprintf("%s looks like a secret: %s (fingerprint %s)", where, f.Rule, f.Fingerprint)
}

// Manifest scans a manifest, but for what it lists as no secret.
func Manifest(m *registry.Manifest) []Finding {
	var out []Finding
	names := map[Finding]bool{} // leaves share them
	for _, leaf := range m.Leaves() {
		key, path, named := m.ValueAt(leaf.Path)
		above := strings.TrimSuffix(leaf.Path, path)
		s := scan{key: key, named: named, found: func(f Finding, value json.RawMessage) bool {
			f.Fingerprint = fingerprint(key, f.Path, value)
			if listed(m, key, f.Path, f.Fingerprint) {
				return false
			}
			f.Key, f.Path = m.Key, above+f.Path
			if !names[f] {
				names[f] = f.Name
				f.Place = leaf.Place
				out = append(out, f)
			}
			return true
		}}
		if !s.names(path) {
			s.leaf(path, leaf.Value)
		}
	}
	return out
}

// Value scans the value of a quick edit; the resource's manifest, nil where there is none, may list it as no secret.
func Value(key string, value json.RawMessage, m *registry.Manifest) []Finding {
	var out []Finding
	s := scan{key: key, named: true, found: func(f Finding, value json.RawMessage) bool {
		f.Key, f.Fingerprint = key, fingerprint(key, f.Path, value)
		if m != nil && listed(m, key, f.Path, f.Fingerprint) {
			return false
		}
		out = append(out, f)
		return true
	}}
	s.leaf("", value)
	return out
}

// Sources scans all manifests.
func Sources(s *registry.Sources) []Finding {
	var out []Finding
	for _, m := range s.Manifests() {
		out = append(out, Manifest(m)...)
	}
	return out
}

// fingerprint tells values of one place apart. It is short, so that it proves no guess at the value.
func fingerprint(key, path string, value json.RawMessage) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "lockstep not-secret v1\x00%s\x00%s\x00%s", key, path, value))
	return hex.EncodeToString(sum[:4])
}

// listed says whether a manifest lists a value as no secret.
func listed(m *registry.Manifest, key, path, print string) bool {
	return slices.ContainsFunc(m.Metadata().NotSecret, func(n registry.NotSecret) bool {
		ofKey, at, _ := m.ValueAt(n.Path)
		return n.Fingerprint == print && ofKey == key && at == path
	})
}

var (
	escape   = strings.NewReplacer("~", "~0", "/", "~1") // RFC 6901
	unescape = strings.NewReplacer("~1", "/", "~0", "~")
)

// scan walks a value.
type scan struct {
	key   string                              // resource, or manifest
	named bool                                // the names in the path are those of the application
	found func(Finding, json.RawMessage) bool // false: it is listed as no secret
}

func (s *scan) leaf(path string, value json.RawMessage) {
	switch value[0] {
	case '{':
		var members map[string]json.RawMessage
		if json.Unmarshal(value, &members) == nil {
			for _, name := range slices.Sorted(maps.Keys(members)) {
				if !s.member(path, name) {
					s.leaf(path+"/"+escape.Replace(name), members[name])
				}
			}
		}
	case '[':
		var items []json.RawMessage
		if json.Unmarshal(value, &items) == nil {
			for i, item := range items {
				s.leaf(path+"/"+strconv.Itoa(i), item)
			}
		}
	case '"':
		var text string
		if json.Unmarshal(value, &text) == nil && !strings.Contains(path+"/", "/$secret/") {
			if rule := s.text(path, text); rule != "" {
				s.found(Finding{Path: path, Rule: rule}, value)
			}
		}
	case 't', 'f', 'n':
	default:
		if s.named && isPassword(s.words(path)) {
			s.found(Finding{Path: path, Rule: "a literal under the name " + s.name(path)}, value)
		}
	}
}

// names says whether a name in a path looks like a secret.
func (s *scan) names(path string) bool {
	for at := range len(path) {
		if path[at] != '/' {
			continue
		}
		name, _, _ := strings.Cut(path[at+1:], "/")
		if s.member(path[:at], unescape.Replace(name)) {
			return true
		}
	}
	return false
}

// member says whether the name of a member looks like a secret. What stands under it is not looked at: findings there would show the name.
func (s *scan) member(path, name string) bool {
	rule := looksLike("name", name)
	if rule == "" {
		return false
	}
	quoted, err := json.Marshal(name)
	return err == nil && s.found(Finding{Path: path, Name: true, Rule: "the name of a member: " + rule}, quoted)
}

// text says what a text looks like; "" is nothing.
func (s *scan) text(path, text string) string {
	if s.named && isSensitive(s.words(path)) && isLiteral(s.words(path), text) {
		return "a literal under the name " + s.name(path)
	}
	return looksLike(s.identifier(path), text)
}

// looksLike says what a text looks like, whatever stands around it but its name in a program; "" is nothing.
func looksLike(identifier, text string) string {
	switch {
	case privateKey.MatchString(text):
		return "a private key"
	case hasUserinfo(text):
		return "a password in a URL"
	case isAssigned(text):
		return "a password or token that is assigned in the text"
	case authorization.MatchString(text):
		return "an authorization header"
	}
	if len(text) >= minLeaked {
		if rule := leaked(identifier, text); rule != "" {
			return "gitleaks rule " + rule
		}
	}
	if isRandom(text) {
		return "a long random text"
	}
	return ""
}

// name is the nearest name in a path that is no index of a list, or the name of the resource.
func (s *scan) name(path string) string {
	for path != "" {
		i := strings.LastIndexByte(path, '/')
		segment := path[i+1:]
		if _, err := strconv.Atoi(segment); err != nil {
			return unescape.Replace(segment)
		}
		path = path[:i]
	}
	_, name, _ := strings.Cut(s.key, "/")
	return name
}

func (s *scan) words(path string) []string { return words(s.name(path)) }

// identifier is how a program would name the value: rules of gitleaks look at it too.
func (s *scan) identifier(path string) string {
	if !s.named {
		return s.name(path)
	}
	_, name, _ := strings.Cut(s.key, "/")
	return strings.ReplaceAll(name+unescape.Replace(path), "/", "_")
}
