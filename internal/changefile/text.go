package changefile

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// text is what a person wrote for persons. A number is taken as it is written: a commit may look like one.
type text string

// UnmarshalText takes text without control characters.
func (t *text) UnmarshalText(b []byte) error {
	if len(b) > maxText {
		return fmt.Errorf("this text has %d bytes; at most %d are kept", len(b), maxText)
	}
	if !utf8.Valid(b) {
		return errors.New("this text is no UTF-8")
	}
	for _, r := range string(b) {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return fmt.Errorf("this text holds the control character %U", r)
		}
	}
	*t = text(b)
	return nil
}

// within is a propagation window, in whole seconds.
type within time.Duration

// UnmarshalText takes a duration.
func (w *within) UnmarshalText(b []byte) error {
	d, err := time.ParseDuration(string(b))
	if err != nil || d <= 0 || d > maxWithin || d%time.Second != 0 {
		return fmt.Errorf("%q is no propagation window: write whole seconds, minutes or hours, as in 90s, 10m or 24h", clip(string(b)))
	}
	*w = within(d)
	return nil
}

// pattern is the name of an environment, or a pattern of names.
type pattern string

// UnmarshalText takes a name, or a pattern as of path.Match.
func (p *pattern) UnmarshalText(b []byte) error {
	s := string(b)
	if !strings.ContainsAny(s, `*?[\`) {
		if err := events.CheckName(s); err != nil {
			return err
		}
	} else if _, err := path.Match(s, ""); err != nil || len(s) > 256 || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("%q is no pattern of environment names: write it as in prod-*", clip(s))
	}
	*p = pattern(s)
	return nil
}

// key is the key of a resource.
type key string

// UnmarshalText takes <kind>/<name>.
func (k *key) UnmarshalText(b []byte) error {
	*k = key(b)
	return events.CheckKey(string(b))
}
