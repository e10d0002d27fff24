package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/audit"
	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func auditCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Read, verify and prove what is recorded, without believing anybody",
		Long: `Read the whole ledger, verify it here, and say what it shows. Everything is checked by this program: the publisher only hands over what
is stored. What is written with 'audit export' is read with --file, anywhere and for ever.`,
	}
	console.Group(cmd)
	cmd.AddCommand(auditLogCommand(c), auditVerifyCommand(c), auditProveCommand(c), auditCheckCommand(c), auditExportCommand(c), auditReportCommand(c))
	return cmd
}

// source is where a verb reads a ledger.
type source struct{ file string }

func (s *source) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.file, "file", "", "read an export from `FILE` (- is standard input) and not from the publisher")
}

// open reads the ledger's beginning; close it.
func (c *cli) openLedger(cmd *cobra.Command, s source) (*audit.Reader, func() error, error) {
	from, err := c.ledgerStream(cmd, s)
	if err != nil {
		return nil, nil, err
	}
	r, err := audit.NewReader(from)
	if err != nil {
		_ = from.Close() // nothing was read from it
		return nil, nil, err
	}
	return r, from.Close, nil
}

func (c *cli) ledgerStream(cmd *cobra.Command, s source) (io.ReadCloser, error) {
	switch s.file {
	case "":
		publisher, _, err := c.connect()
		if err != nil {
			return nil, err
		}
		return publisher.Export(cmd.Context())
	case "-":
		return io.NopCloser(c.stdin), nil
	}
	file, err := os.Open(s.file)
	if err != nil {
		return nil, fmt.Errorf("read the export: %w", err)
	}
	return file, nil
}

// unsound is what a verb ends with where the ledger is not as it should be.
func (c *cli) unsound(v audit.Verification) error {
	if v.OK {
		return nil
	}
	return console.Exit(console.ExitFailure, "the ledger is not as it should be: "+v.Problems[0]+"; see 'publisher audit verify'")
}

func auditVerifyCommand(c *cli) *cobra.Command {
	var from source
	var roots []string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Verify the whole ledger here: chain, signatures, authority, every release again, and its seal; exit 1 when anything is wrong",
		Long: `Read the whole ledger and verify it in this program: numbers and chain; everything that people signed, and that they might; every
approval against the trust document and the policies of its time; every release derived again and compared with what the stream
RELEASES holds; every statement of an agent; and the publisher's seal over all of it.

The roots that sign trust documents are compared with those that --root names: then nobody has to be believed for who may do what.`,
		Example: `  publisher audit verify
  publisher audit verify --file ledger.jsonl --root UD2W…`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkRoots(cmd, roots); err != nil {
				return err
			}
			r, done, err := c.openLedger(cmd, from)
			if err != nil {
				return err
			}
			defer done() //nolint:errcheck // it was read
			v, err := audit.Verify(r, roots)
			if err != nil {
				return err
			}
			if err := c.show(v, func() { c.auditVerified(v) }); err != nil || v.OK {
				return err
			}
			return console.Exit(console.ExitFailure, "the ledger is not as it should be: "+v.Problems[0])
		},
	}
	from.register(cmd)
	rootFlag(cmd, &roots)
	return cmd
}

func rootFlag(cmd *cobra.Command, roots *[]string) {
	cmd.Flags().StringSliceVar(roots, "root", nil, "public `KEY` of a root that you know from elsewhere (repeatable)")
	complete(cmd, "root", cobra.NoFileCompletions)
}

func checkRoots(cmd *cobra.Command, roots []string) error {
	for _, key := range roots {
		if !strings.HasPrefix(key, "U") || len(key) != 56 {
			return console.Usage(cmd, "--root %q is no public key: they begin with U and have 56 letters and digits", key)
		}
	}
	return nil
}

func (c *cli) auditVerified(v audit.Verification) {
	c.line("ledger      %s", v.Ledger)
	c.line("entries     %d, the newest of %s", v.Tip.Number, moment(v.Time))
	c.line("sealed      %d entries, root %s", v.Seal.Size, v.Seal.Root.Short())
	c.line("trust       %s; approvals are %s", plural(v.Documents, "document", "documents"), dash(v.Approvals))
	for _, root := range v.Roots {
		c.line("root        %s", root)
	}
	c.line("people      %s signed, %s", plural(v.Statements, "statement", "statements"), plural(v.Given, "approval", "approvals"))
	c.line("releases    %d derived again, %d of them in the stream as recorded", v.Releases, v.Held)
	c.line("agents      %s, signed", plural(v.Deliveries, "statement", "statements"))
	for _, l := range v.Losses {
		c.line("%s        %s; entry %d of %s", c.paint(yellow, "lost"), plain(l.String()), l.Entry, moment(l.Time))
	}
	for _, problem := range v.Problems {
		c.line("%s     %s", c.paint(red, "problem"), plain(problem))
	}
	if v.OK {
		c.line("%s          everything is as it was recorded", c.paint(green, "ok"))
	}
}

func auditExportCommand(c *cli) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the whole ledger, with its seal and the bus's stamps, as one JSON object a line",
		Long: `Write the whole ledger: a header with the publisher's seal, every entry with the bus's stamp, what the release stream holds, and how many
lines there were. It is verified with 'publisher audit verify --file FILE', on any machine.`,
		Example: `  publisher audit export > ledger.jsonl
  publisher audit export -o ledger.jsonl`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, err := c.ledgerStream(cmd, source{})
			if err != nil {
				return err
			}
			defer from.Close()
			if path == "" {
				return whole(io.Copy(c.stdout, from))
			}
			err = writeNew(path, func(to io.Writer) error { return whole(io.Copy(to, from)) })
			if err == nil {
				c.note("wrote the ledger to %s; verify it with %s", path, hint("publisher audit verify --file", path))
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&path, "output", "o", "", "`FILE` to write, which must not be there; standard output without it")
	return cmd
}

// whole is how a copy ended; one that was cut lacks its last line, and is refused when it is read.
func whole(_ int64, err error) error {
	if err != nil {
		return fmt.Errorf("the export is not whole: %w", err)
	}
	return nil
}

// writeNew writes a file that is not there yet, whole or not at all.
func writeNew(path string, write func(io.Writer) error) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s is there already; name another file", path)
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".new-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name()) // nothing refers to it
		}
	}()
	err = write(file)
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func auditLogCommand(c *cli) *cobra.Command {
	var from source
	var f audit.Filter
	var since, until string
	var limit int
	cmd := &cobra.Command{
		Use:   "log",
		Short: "List who decided what, newest first",
		Example: `  publisher audit log --person anna --since 2026-11-01
  publisher audit log --resource 'flag/*' --env 'prod-*' -o json`,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := notEmpty(cmd, "person", "resource", "env", "since", "until"); err != nil {
				return err
			}
			if f.Since, err = instant(cmd, "since", since, time.Now()); err != nil {
				return err
			}
			if f.Until, err = instant(cmd, "until", until, time.Now()); err != nil {
				return err
			}
			r, done, err := c.openLedger(cmd, from)
			if err != nil {
				return err
			}
			defer done() //nolint:errcheck // it was read
			list, v, err := audit.Log(r, f)
			if err != nil {
				return err
			}
			older := 0
			if limit > 0 && len(list) > limit {
				list, older = list[:limit], len(list)-limit
			}
			if list == nil {
				list = []audit.Record{}
			}
			if err := c.show(list, func() { c.auditLog(list) }); err != nil {
				return err
			}
			if older > 0 {
				c.note("%d older; all with --limit 0", older)
			}
			return c.unsound(v)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.Person, "person", "", "only what `NAME` did")
	flags.StringVar(&f.Resource, "resource", "", "only what concerns a `RESOURCE`, or all that match a pattern with *")
	flags.StringVar(&f.Environment, "env", "", "only what concerns the environment `NAME`, or all that match a pattern with *")
	flags.StringVar(&since, "since", "", "only from a `TIME` on: 2026-11-21, 2026-11-21T09:30:00Z, or 36h for the last 36 hours")
	flags.StringVar(&until, "until", "", "only up to a `TIME`, or to the end of a day")
	flags.IntVarP(&limit, "limit", "n", historyLimit, "at most so many; 0 is all")
	from.register(cmd)
	complete(cmd, "env", c.completeEnvironments)
	complete(cmd, "resource", c.completeResourcesAnywhere)
	for _, flag := range []string{"person", "since", "until"} {
		complete(cmd, flag, cobra.NoFileCompletions)
	}
	return cmd
}

// instant reads a time as people write it; empty is none.
func instant(cmd *cobra.Command, flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		if flag == "until" {
			day = day.Add(24*time.Hour - 1) // all of it
		}
		return day, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	return time.Time{}, console.Usage(cmd, "--%s %q is no time; write 2026-11-21, 2026-11-21T09:30:00Z, or 36h", flag, text)
}

func (c *cli) auditLog(list []audit.Record) {
	if len(list) == 0 {
		c.note("nothing of that is recorded")
		return
	}
	t := c.newTable("ENTRY", "WHEN", "WHO", "WHAT", "CHANGE", "ENVIRONMENTS", "WHY")
	for _, r := range list {
		who := plain(r.By)
		if r.Signed {
			who += " (signed)"
		}
		t.AppendRow([]any{r.Entry, r.Time.UTC().Format("2006-01-02 15:04:05Z"), who, strings.Join(r.What, ", "), dash(strings.Join(r.Changes, ", ")), dash(few(r.Environments)), cell(r.Reason)})
	}
	c.print(t)
}

// few are the first of some names.
func few(names []string) string {
	const most = 3
	if more := len(names) - most; more > 0 {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(names, ", ")
}

func auditReportCommand(c *cli) *cobra.Command {
	var from source
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Say what auditors ask first: break-glass, changes approved by rule, access by person, delegations",
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, done, err := c.openLedger(cmd, from)
			if err != nil {
				return err
			}
			defer done() //nolint:errcheck // it was read
			report, v, err := audit.NewReport(r)
			if err != nil {
				return err
			}
			if err := c.unsound(v); err != nil {
				return err
			}
			return c.show(report, func() { c.auditReport(report) })
		},
	}
	from.register(cmd)
	return cmd
}

func (c *cli) auditReport(r audit.Report) {
	c.line("ledger      %s, up to %s; approvals are %s", r.Ledger, moment(r.Time), r.Approvals)
	c.line("\nbreak-glass: %d", len(r.BreakGlass))
	for _, b := range r.BreakGlass {
		var by []string
		for _, review := range b.Reviewed {
			by = append(by, plain(review.By))
		}
		c.line("  entry %d, %s: %s, change %s%s; signed off by %s", b.Entry, moment(b.Time), plain(b.By), strings.Join(b.Changes, ", "), because(brief(b.Reason)), dash(strings.Join(by, ", ")))
	}
	c.line("\napproved by rule: %d", len(r.ByRule))
	for _, b := range r.ByRule {
		c.line("  entry %d, %s: %s, change %s%s", b.Entry, moment(b.Time), plain(b.By), strings.Join(b.Changes, ", "), because(brief(b.Reason)))
	}
	c.line("")
	t := c.newTable("PERSON", "KEYS", "ROLES", "DECISIONS", "LAST")
	for _, a := range r.Access {
		roles := []string{}
		for _, g := range a.Grants {
			roles = append(roles, string(g.Role)+" in "+few(g.Environments))
		}
		switch {
		case !a.Known && a.Person == "publisher":
			roles = []string{"none: the publisher itself, of what follows from decisions"}
		case !a.Known:
			roles = []string{"not in the trust document"}
		}
		t.AppendRow([]any{plain(a.Person), a.Keys, plain(strings.Join(roles, "; ")), a.Acted, ago(a.Last)})
	}
	c.print(t)
	c.line("\ndelegations: %d", len(r.Delegations))
	for _, d := range r.Delegations {
		state := "ended"
		if d.Open {
			state = "open"
		}
		c.line("  %s acts as %s in the role %s until %s, %s", plain(d.To), plain(d.From), d.Role, d.Until.UTC().Format("2006-01-02 15:04Z"), state)
	}
}

// digestOrNone is a digest for people.
func digestOrNone(d events.Digest) string {
	if d.IsZero() {
		return "not read back"
	}
	return d.Short()
}
