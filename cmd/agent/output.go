package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/lockstep-dev/lockstep/internal/config"
)

var formats = []string{"table", "json", "yaml"}

// format is how data is written: table, json or yaml.
type format string

func (f *format) String() string { return string(*f) }
func (f *format) Type() string   { return "format" }

// Set implements pflag.Value.
func (f *format) Set(s string) error {
	if !slices.Contains(formats, s) {
		return fmt.Errorf("want table, json or yaml")
	}
	*f = format(s)
	return nil
}

// An output remembers the first error of what it writes to: a table that nobody could write is no success.
type output struct {
	io.Writer
	err error
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.Writer.Write(b)
	if o.err == nil {
		o.err = err
	}
	return n, err
}

// show writes data as JSON or YAML where that is asked for, and otherwise lets people write it for people.
func (c *cli) show(data any, people func()) error {
	if c.format == "table" {
		people()
		return nil
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(data); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	out := []byte(b.String())
	if c.format == "yaml" {
		var err error
		if out, err = config.YAML(out); err != nil {
			return fmt.Errorf("write the answer: %w", err)
		}
	}
	_, err := c.stdout.Write(out)
	return err
}

// line writes a line of data.
func (c *cli) line(format string, args ...any) { fmt.Fprintf(c.stdout, format+"\n", args...) }

// rows writes columns that stand below one another; cells are separated by tabs.
func (c *cli) rows(lines ...string) {
	w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	for _, line := range lines {
		fmt.Fprintln(w, line)
	}
	_ = w.Flush() // c.stdout remembers
}

// moment is a time and how long ago it was.
func moment(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return fmt.Sprintf("%s (%s ago)", t.UTC().Format("2006-01-02 15:04:05Z"), time.Since(t).Round(time.Second))
}

func value(v json.RawMessage) string {
	const most = 80
	switch s := string(v); {
	case v == nil:
		return "(absent)"
	case len(s) > most:
		return s[:most] + "…"
	default:
		return s
	}
}

func readBack(yes bool) string {
	if yes {
		return "read back"
	}
	return "not read back"
}

func counted(resources int) string {
	if resources == 1 {
		return "1 resource"
	}
	return fmt.Sprintf("%d resources", resources)
}
