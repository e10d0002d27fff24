package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"
)

// show writes data as JSON or YAML where that is asked for, and otherwise lets people write it for people.
func (c *cli) show(data any, people func()) error {
	return c.format.Show(c.stdout, data, people)
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
