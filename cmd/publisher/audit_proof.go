package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/audit"
	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func auditProveCommand(c *cli) *cobra.Command {
	var from source
	var path string
	cmd := &cobra.Command{
		Use:   "prove ID -o FILE",
		Short: "Write a proof of what became of a change, which 'audit check' verifies without access to anything",
		Long: `Verify the whole ledger and write what proves one change: who proposed it and who approved it, what was released where, and which agent
applied it when. Every entry that it rests on is in the file, with its place under the publisher's seal.`,
		Example:           `  publisher audit prove c12 -o c12.proof`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeChanges(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if path == "" {
				return console.Usage(cmd, "name the file of the proof with -o")
			}
			r, done, err := c.openLedger(cmd, from)
			if err != nil {
				return err
			}
			defer done() //nolint:errcheck // it was read
			proof, v, err := audit.Prove(r, args[0])
			if err != nil {
				return err
			}
			if err := c.unsound(v); err != nil {
				return err
			}
			file, err := proof.Encode()
			if err != nil {
				return err
			}
			err = writeNew(path, func(to io.Writer) error {
				if _, err := to.Write(file); err != nil {
					return fmt.Errorf("write %s: %w", path, err)
				}
				return nil
			})
			if err != nil {
				return err
			}
			c.note("%s proves change %s with %s of %d; check it with 'publisher audit check %s'", plain(path), args[0], plural(len(proof.Entries), "entry", "entries"), v.Tip.Number, plain(path))
			return nil
		},
	}
	cmd.Flags().StringVarP(&path, "output", "o", "", "`FILE` to write, which must not be there")
	from.register(cmd)
	return cmd
}

// maxProof bounds the file of a proof in bytes.
const maxProof = 256 << 20

func auditCheckCommand(c *cli) *cobra.Command {
	var roots []string
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Verify the proof of a change without access to anything, and say what it shows and what it rests on",
		Example: `  publisher audit check c12.proof
  publisher audit check c12.proof --root UD2W… -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkRoots(cmd, roots); err != nil {
				return err
			}
			file, err := readProof(args[0])
			if err != nil {
				return err
			}
			found, err := audit.Check(file, roots)
			if err != nil {
				return console.Exit(console.ExitFailure, "this proves nothing: "+err.Error())
			}
			return c.show(found, func() { c.auditFound(found) })
		},
	}
	rootFlag(cmd, &roots)
	return cmd
}

func readProof(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the proof: %w", err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxProof+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the proof: %w", err)
	case len(b) > maxProof:
		return nil, fmt.Errorf("read the proof: %s has more than %d bytes", path, maxProof)
	}
	return b, nil
}

func (c *cli) auditFound(f audit.Finding) {
	c.line("change      %s of ledger %s", plain(f.Change), plain(f.Ledger))
	c.line("digest      %s", f.Digest)
	c.line("proposed    %s by %s%s", moment(f.Proposed), plain(f.Author), because(brief(f.Reason)))
	if f.Ticket != "" {
		c.line("ticket      %s", plain(f.Ticket))
	}
	for _, a := range f.Approvals {
		signed := "a name"
		if a.Key != "" {
			signed = "signed by " + a.Key
		}
		verb := "approved"
		if a.Verb == events.VerbBreakGlass {
			verb = "broke the glass"
		}
		c.line("%-11s %s by %s, %s; entry %d", verb, moment(a.At), plain(a.By), signed, a.Entry)
	}
	if f.ByRule {
		c.line("approved    by rule: the trust document demands nobody's approval of it")
	}
	for _, r := range f.Reviews {
		c.line("signed off  %s by %s; entry %d", moment(r.At), plain(r.By), r.Entry)
	}
	if f.Ended != "" {
		c.line("ended       by %s", plain(f.Ended))
	}
	if len(f.Environments) > 0 {
		c.line("")
		t := c.newTable("ENVIRONMENT", "REVISION", "WHAT", "RELEASED", "STATE", "APPLIED BY", "WHEN", "READ BACK")
		for _, e := range f.Environments {
			row := []any{e.Environment, e.Revision, string(e.Kind), e.Time.UTC().Format("2006-01-02 15:04:05Z"), e.State.Short()}
			if len(e.Agents) == 0 {
				t.AppendRow(append(row, "nobody yet", "-", "-"))
			}
			for _, a := range e.Agents {
				t.AppendRow(append(row[:5:5], a.Agent, a.Applied.UTC().Format("2006-01-02 15:04:05Z"), digestOrNone(a.Observed)))
			}
		}
		c.print(t)
	}
	c.line("")
	c.line("sealed      %d entries, root %s", f.Seal.Size, f.Seal.Root.Short())
	for _, root := range f.Roots {
		c.line("root        %s", root)
	}
	c.line("%s          everything in the file is signed, sealed and fits together", c.paint(green, "ok"))
	c.line("rests on    %s", strings.Join(f.Rests, "\n            "))
}
