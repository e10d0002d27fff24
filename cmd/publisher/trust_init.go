package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/api/client"
	"github.com/lockstep-dev/lockstep/internal/bus/credentials"
	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/publisher"
	"github.com/lockstep-dev/lockstep/internal/trust"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// beginning are the flags of trust init.
type beginning struct {
	data, rootDir    string
	roots, threshold int
	reason           string
}

func trustInitCommand(c *cli) *cobra.Command {
	var b beginning
	var w writing
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Begin with signed trust: root keys, a first administrator, and the first trust document",
		Long: `Begin with signed trust. From then on nobody changes anything without signing it, and agents apply nothing that does not carry the
signatures that the trust document demands.

With --data it prepares the data directory of a publisher that was never started: root keys, the publisher's key, and the first trust
document, signed by the roots, with which 'publisher serve --data' begins the ledger; and the bus's credentials, with which agents and nobody
else come in. Without --data it proposes that document to a running publisher whose approvals are names so far; there is no way back, and the
bus stays as it is.

Who acts (--as) becomes the first administrator, with a key that is made where there is none: administrator, author, approver,
release-manager and operator in every environment. Nobody approves their own changes, so that nothing is released before a second person
is there. The root keys sign nothing but trust documents: take them offline. Those that are in --root-dir already, as root-1.key and so
on, are used as they are.`,
		Example: `  publisher trust init --data ./lockstep-data --as anna
  publisher trust init --data ./lockstep-data --as anna --roots 3 --threshold 2 --root-dir /media/offline
  publisher trust init --as anna -m "signed from now on"`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case b.roots < 1 || b.roots > 20:
				return console.Usage(cmd, "--roots: want 1 to 20 keys")
			case b.threshold < 1 || b.threshold > b.roots:
				return console.Usage(cmd, "--threshold: want 1 to %d signatures, as many as there are root keys", b.roots)
			case b.data != "" && (w.key != "" || b.reason != ""):
				return console.Usage(cmd, "--idempotency-key and -m are for a running publisher; with --data nothing is sent")
			case b.data != "":
				return c.prepareTrust(b, w.dryRun)
			case b.reason == "":
				return console.Usage(cmd, "say why with -m, or name the data directory of a publisher that was never started with --data")
			}
			return c.moveToSigned(cmd.Context(), b, w)
		},
	}
	f := cmd.Flags()
	f.StringVar(&b.data, "data", "", "data `DIRECTORY` of a publisher that was never started")
	f.StringVar(&b.rootDir, "root-dir", "lockstep-roots", "`DIRECTORY` for the root keys, such as one on a medium that you take away")
	f.IntVar(&b.roots, "roots", 1, "how many root keys")
	f.IntVar(&b.threshold, "threshold", 1, "how many of them must sign a trust document")
	f.StringVarP(&b.reason, "message", "m", "", "with a running publisher: say `WHY`")
	_ = cmd.MarkFlagDirname("data")     // the flag is there
	_ = cmd.MarkFlagDirname("root-dir") // so is this
	w.register(cmd)
	return cmd
}

// A founding is what trust init made.
type founding struct {
	Administrator keys.PersonKey   `json:"administrator"`
	Roots         []keys.PersonKey `json:"roots"`
	Threshold     int              `json:"threshold"`
	Publisher     string           `json:"publisher"` // public nkey
	Document      string           `json:"document,omitempty"`
	Operator      string           `json:"operator,omitempty"` // file with the bus operator's own key
	Change        string           `json:"change,omitempty"`
}

// prepareTrust writes what a publisher begins with that was never started.
func (c *cli) prepareTrust(b beginning, dryRun bool) error {
	reach, err := c.reachDefault()
	if err != nil {
		return err
	}
	c.said.Server = client.DefaultServer // not the one that runs on this machine: people's keys are not those that go with it
	document := filepath.Join(b.data, publisher.TrustFile)
	for _, taken := range []string{document, filepath.Join(b.data, "ledger.copy")} {
		if _, err := os.Stat(taken); err == nil {
			return console.Exit(console.ExitConflict, taken+" is there already: the ledger of "+b.data+" has its trust; start it with 'publisher serve', and edit its trust with 'publisher trust add' and its siblings, or begin with 'publisher trust init' without --data where approvals are names")
		}
	}
	if dryRun {
		c.note("dry run, not done: make %s in %s, and prepare %s with the first signed trust document", plural(b.roots, "root key", "root keys"), b.rootDir, b.data)
		return nil
	}
	if err := os.MkdirAll(b.data, 0o700); err != nil {
		return err
	}
	publisherKey, err := keyAt(filepath.Join(b.data, "publisher.key"))
	if err != nil {
		return err
	}
	before := &events.Trust{Ledger: uuid.NewString(), Publishers: []string{publisherKey.Key}}
	first, made, err := c.found(b, before)
	if err != nil {
		return err
	}
	for _, root := range made.Roots {
		sig, err := first.SignRoot(root.Signer)
		if err != nil {
			return err
		}
		first.Signatures = append(first.Signatures, sig)
	}
	if err := first.CheckSuccession(nil); err != nil {
		return err
	}
	if made.Operator, err = credentials.Make(b.data); err != nil && !errors.Is(err, fs.ErrExist) { // an earlier try made them
		return err
	}
	text, err := events.Encode(first)
	if err != nil {
		return err
	}
	if err := writeNew(document, func(f io.Writer) error { _, err := f.Write(append(text, '\n')); return err }); err != nil {
		return err
	}
	made.Publisher, made.Document = publisherKey.Key, document
	return c.show(made, func() {
		c.founded(made)
		c.note("  %-*s the publisher's: signs releases, and stays on its machine", made.width(), publisherKey.File)
		if made.Operator != "" {
			c.note("  %-*s the bus operator's: take it offline; beside it are the credentials that the publisher issues with", made.width(), made.Operator)
		}
		c.note("  %-*s the first trust document, signed by %s", made.width(), document, plural(len(made.Roots), "root", "roots"))
		c.firstRoles(made)
		c.note("\nNext:")
		c.note("  publisher serve --data %s", shellWord(b.data))
		c.secondPerson(made, reach)
	})
}

// reachDefault are the flags that reach a publisher at the default address, with the same keys as now: where another one is found without
// being named, as while a demo runs, the address must be said.
func (c *cli) reachDefault() (flags string, err error) {
	found, err := client.Locate(client.Target{Keys: c.said.Keys})
	if err != nil {
		return "", err
	}
	meant, err := client.Locate(client.Target{Server: client.DefaultServer, Keys: c.said.Keys})
	if found.Server != meant.Server || found.Keys != meant.Keys {
		flags = " --server " + client.DefaultServer
	}
	return flags + option("keys", c.said.Keys), err
}

// option is a flag as a person types it; "" for one that was not given.
func option(name, value string) string {
	if value == "" {
		return ""
	}
	return " --" + name + " " + shellWord(value)
}

// moveToSigned proposes the first signed document to a publisher whose approvals are names.
func (c *cli) moveToSigned(ctx context.Context, b beginning, w writing) error {
	desk, _, err := c.connect()
	if err != nil {
		return err
	}
	pins, err := desk.Pins(ctx, "")
	if unavailable, ok := errors.AsType[*api.UnavailableError](err); ok {
		unavailable.Next = "start it with 'publisher serve', or name the data directory of one that was never started with --data"
	}
	if err != nil {
		return err
	}
	if pins.Document.Approvals == events.ApprovalsAreSigned {
		_, err := trust.First(&pins.Document, events.Roots{}, "", "")
		return err
	}
	if w.dryRun {
		c.note("dry run, not done: make %s in %s, and propose the first signed trust document", plural(b.roots, "root key", "root keys"), b.rootDir)
		return nil
	}
	first, made, err := c.found(b, &pins.Document)
	if err != nil {
		return err
	}
	out, err := c.do(ctx, w, ledger.ProposeTrust{Document: *first, Reason: b.reason})
	if err != nil {
		return err
	}
	made.Publisher, made.Change = strings.Join(first.Publishers, ","), out.Change
	return c.show(made, func() {
		c.line("%s", out.Change)
		c.founded(made)
		c.firstRoles(made)
		c.note("\nproposed %s: approvals are signed from the moment it is approved, and there is no way back. Next:", out.Change)
		reach := option("server", c.said.Server) + option("keys", c.said.Keys)
		c.note("  publisher show %s%s", out.Change, option("server", c.said.Server))
		c.note("  publisher approve %s %s%s", out.Change, made.rootFlags(), reach)
		c.secondPerson(made, reach)
		c.note("\nThe bus stays as it is: where it has no credentials of its own, whoever reaches it comes in. One that lets in agents and nobody else")
		c.note("begins with a new ledger: 'publisher trust init --data NEW'.")
	})
}

// found makes the root keys and the administrator's, and the first document with them.
func (c *cli) found(b beginning, before *events.Trust) (*events.Trust, founding, error) {
	made := founding{Threshold: b.threshold}
	target, err := client.Locate(c.said)
	if err != nil {
		return nil, made, err
	}
	ring, err := c.ring()
	if err != nil {
		return nil, made, err
	}
	if made.Administrator, err = ring.Open(target.As); err != nil {
		return nil, made, err
	}
	if err := os.MkdirAll(b.rootDir, 0o700); err != nil {
		return nil, made, fmt.Errorf("directory of root keys: %w", err)
	}
	roots := events.Roots{Threshold: b.threshold}
	for i := range b.roots {
		root, err := keyAt(filepath.Join(b.rootDir, fmt.Sprintf("root-%d.key", i+1)))
		if err != nil {
			return nil, made, err
		}
		made.Roots, roots.Keys = append(made.Roots, root), append(roots.Keys, root.Key)
	}
	first, err := trust.First(before, roots, target.As, made.Administrator.Key)
	return first, made, err
}

func (f founding) width() int {
	widest := max(len(f.Document), len(f.Operator))
	for _, k := range append(f.Roots, f.Administrator) {
		widest = max(widest, len(k.File))
	}
	return widest
}

// rootFlags name as many root keys as must sign.
func (f founding) rootFlags() string {
	var out []string
	for _, root := range f.Roots[:f.Threshold] {
		out = append(out, "--root-key "+shellWord(root.File))
	}
	return strings.Join(out, " ")
}

// founded says which files there are now, and what to do with each.
func (c *cli) founded(f founding) {
	for _, root := range f.Roots {
		c.note("  %-*s a root: signs trust documents; take it offline, and keep a copy elsewhere", f.width(), root.File)
	}
	c.note("  %-*s %s's: signs what %s does", f.width(), f.Administrator.File, f.Administrator.Name, f.Administrator.Name)
}

func (c *cli) firstRoles(f founding) {
	var roles []string
	for _, role := range trust.FirstRoles {
		roles = append(roles, string(role))
	}
	last := len(roles) - 1
	c.note("\n%s is %s and %s in every environment. Nobody approves their own changes,", f.Administrator.Name, strings.Join(roles[:last], ", "), roles[last])
	c.note("so that nothing can be released before a second person is there.")
}

// secondPerson says how somebody comes who can approve. The flags in reach find the publisher and the administrator's key.
func (c *cli) secondPerson(f founding, reach string) {
	c.note("  publisher key new ben          # on ben's machine: prints the U… below")
	c.note("  publisher trust add ben --key U… --role author --role approver --env '*' -m 'Ben joins' --as %s %s%s", shellWord(f.Administrator.Name), f.rootFlags(), reach)
}

// keyAt is the key in a file, which is made where there is none.
func keyAt(path string) (keys.PersonKey, error) {
	signer, err := keys.OpenKey(path, nil)
	if err != nil {
		return keys.PersonKey{}, err
	}
	return keys.PersonKey{Key: signer.Public(), File: path, Signer: signer}, nil
}
