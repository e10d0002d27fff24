package notify

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/config"
)

// A Rule is a kind of thing that is wrong.
type Rule string

// The rules.
const (
	Late      Rule = "late"        // a change is not applied in an environment within its window
	Differing Rule = "differing"   // an environment holds another state than its revision has, or its instance cannot be read
	Failing   Rule = "failing"     // a release cannot be applied, or not even undone
	Silent    Rule = "silent"      // an environment is not heard
	Approval  Rule = "approval"    // a change waits for approval
	Glass     Rule = "break-glass" // a change was released on one person's word, and not enough others have signed that off
	Ledger    Rule = "ledger"      // the ledger cannot be written; while that is so, no other episode begins or ends
)

// Rules are all of them.
var Rules = []Rule{Late, Differing, Failing, Silent, Approval, Glass, Ledger}

// patience is how long something is wrong before somebody is told, where the configuration does not say. Lateness and waiting are counted
// from the ledger's times, everything else from when it was first seen: after a start agents need some seconds to be heard.
var patience = map[Rule]time.Duration{Silent: time.Minute, Approval: 4 * time.Hour, Ledger: time.Minute}

// The formats of what is sent.
const (
	FormatCloudEvents = "cloudevents" // structured JSON
	FormatSlack       = "slack"       // {"text": …}, as Slack and what is compatible with it take
)

// A Config says who is told of what. It holds no secret: those are in files of their own.
type Config struct {
	Targets []Target           `yaml:"targets"` // at least one
	Rules   map[string]Setting `yaml:"rules"`   // by rule; default: each as it is built in
	Link    string             `yaml:"link"`    // address of the dashboard, for links in messages; default none
}

// A Setting changes a rule.
type Setting struct {
	After *time.Duration `yaml:"after"` // how long it must be so; default: silent and ledger 1m, approval 4h, others at once
	Off   bool           `yaml:"off"`   // nobody is told
}

// A Target is a receiver of HTTP requests.
type Target struct {
	Name         string   `yaml:"name"`
	URL          string   `yaml:"url"`          // or
	URLFile      string   `yaml:"urlFile"`      // file that holds the URL, where that is a secret
	Format       string   `yaml:"format"`       // cloudevents (default) or slack
	SecretFile   string   `yaml:"secretFile"`   // file that holds the key of the signature; default: not signed
	Rules        []string `yaml:"rules"`        // default all
	Environments []string `yaml:"environments"` // patterns as prod-*; default all, and what is about none
}

// ParseConfig reads a configuration strictly.
func ParseConfig(name string, text []byte) (*Config, error) {
	var c Config
	if err := config.Decode(name, text, &c); err != nil {
		return nil, err
	}
	if err := c.check(); err != nil {
		return nil, &config.Error{File: name, Line: 1, Column: 1, Message: err.Error()}
	}
	return &c, nil
}

func (c *Config) check() error {
	if len(c.Targets) == 0 {
		return errors.New("targets: name at least one")
	}
	names := map[string]bool{}
	for i := range c.Targets {
		t := &c.Targets[i]
		if err := t.check(); err != nil {
			return fmt.Errorf("targets[%d]: %w", i, err)
		}
		if names[t.Name] {
			return fmt.Errorf("targets[%d]: name: %q stands twice", i, t.Name)
		}
		names[t.Name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(c.Rules)) {
		if err := CheckRule(name); err != nil {
			return fmt.Errorf("rules: %w", err)
		}
		if after := c.Rules[name].After; after != nil && *after < 0 {
			return fmt.Errorf("rules: %s: after: %s is less than nothing", name, *after)
		}
	}
	if c.Link != "" {
		return checkURL("link", c.Link)
	}
	return nil
}

func (t *Target) check() error {
	if t.Name == "" || len(t.Name) > 64 {
		return errors.New("name: give it one, of at most 64 characters")
	}
	if (t.URL == "") == (t.URLFile == "") {
		return errors.New("write either url or urlFile")
	}
	if t.URL != "" {
		if err := checkURL("url", t.URL); err != nil {
			return err
		}
	}
	if t.Format == "" {
		t.Format = FormatCloudEvents
	}
	if t.Format != FormatCloudEvents && t.Format != FormatSlack {
		return fmt.Errorf("format: want %s or %s, have %q", FormatCloudEvents, FormatSlack, t.Format)
	}
	for _, name := range t.Rules {
		if err := CheckRule(name); err != nil {
			return fmt.Errorf("rules: %w", err)
		}
	}
	for _, pattern := range t.Environments {
		if _, err := path.Match(pattern, "x"); err != nil || pattern == "" {
			return fmt.Errorf("environments: %q is no pattern", pattern)
		}
	}
	return nil
}

// CheckRule says whether there is a rule of that name, and which one may be meant.
func CheckRule(name string) error {
	if slices.Contains(Rules, Rule(name)) {
		return nil
	}
	all := make([]string, len(Rules))
	for i, r := range Rules {
		all[i] = string(r)
	}
	if near := config.Nearest(name, all); near != "" {
		return fmt.Errorf("there is no rule %q; did you mean %q?", name, near)
	}
	return fmt.Errorf("there is no rule %q; there are %s", name, strings.Join(all, ", "))
}

// checkURL never repeats the URL: it may hold a secret.
func checkURL(field, text string) error {
	rest, ok := strings.CutPrefix(text, "https://")
	if !ok {
		rest, ok = strings.CutPrefix(text, "http://")
	}
	if host, _, _ := strings.Cut(rest, "/"); !ok || host == "" || strings.ContainsAny(text, " \t\r\n\"<>") {
		return fmt.Errorf("%s: write it as in https://example.org/hooks/lockstep", field)
	}
	return nil
}

// patience is how long something must be wrong, and whether anybody is told at all.
func (c *Config) patience(r Rule) (after time.Duration, told bool) {
	s := c.Rules[string(r)]
	if s.After != nil {
		return *s.After, !s.Off
	}
	return patience[r], !s.Off
}

// wants says whether a target is told of something.
func (t *Target) wants(f Finding) bool {
	if len(t.Rules) > 0 && !slices.Contains(t.Rules, string(f.Rule)) {
		return false
	}
	return len(t.Environments) == 0 || matches(t.Environments, f.Environment)
}

func matches(patterns []string, environment string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		ok, _ := path.Match(pattern, environment) // checked before
		return ok
	})
}
