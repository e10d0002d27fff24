// Package console is what the command lines of the two programs have in common: how data is written, which words are refused, and how a
// program ends.
//
// Guarantees: data that nobody could write is no success; a word, a flag or a topic that is not there is one line with what may have been
// meant, and ends with ExitUsage. It knows no verb, and nothing of publishers and agents.
package console

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/config"
	"github.com/lockstep-dev/lockstep/internal/telemetry"
)

// Interruptible is a context that ends when somebody ends the program. After stop, signals do again what they do elsewhere.
func Interruptible() (ctx context.Context, stop context.CancelFunc) {
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup keeps its meaning
		ends = append(ends, syscall.SIGHUP)
	}
	return signal.NotifyContext(context.Background(), ends...)
}

// Formats are those of Format.
var Formats = []string{"table", "json", "yaml"}

// A Format is how data is written: one of Formats; empty is a table. It is a flag's value.
type Format string

func (f *Format) String() string { return string(*f) }

// Type implements pflag.Value.
func (f *Format) Type() string { return "format" }

// Set implements pflag.Value.
func (f *Format) Set(s string) error {
	if !slices.Contains(Formats, s) {
		return fmt.Errorf("want table, json or yaml")
	}
	*f = Format(s)
	return nil
}

// People says that data is written for people.
func (f Format) People() bool { return f != "json" && f != "yaml" }

// Show writes data as JSON or YAML where that is asked for, and otherwise lets people write it for people.
func (f Format) Show(to io.Writer, data any, people func()) error {
	if f.People() {
		people()
		return nil
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(data)
	out := []byte(b.String())
	if err == nil && f == "yaml" {
		out, err = config.YAML(out)
	}
	if err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	_, err = to.Write(out)
	return err
}

// An Output remembers the first error of what it writes to: a table that nobody could write is no success.
type Output struct {
	io.Writer
	err error
}

func (o *Output) Write(b []byte) (int, error) {
	n, err := o.Writer.Write(b)
	if o.err == nil {
		o.err = err
	}
	return n, err
}

// Err is why what was written is not whole; nil where it is.
func (o *Output) Err() error {
	if o.err == nil {
		return nil
	}
	return fmt.Errorf("the output is not whole: %w", o.err)
}

// VersionCommand is the verb that shows the version of a program.
func VersionCommand(program string, format *Format) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version",
		RunE: func(cmd *cobra.Command, _ []string) error {
			about := map[string]string{"version": telemetry.Version(), "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
			return format.Show(cmd.OutOrStdout(), about, func() {
				fmt.Fprintf(cmd.OutOrStdout(), "%s %s (%s, %s)\n", program, about["version"], about["go"], about["platform"])
			})
		},
	}
}
