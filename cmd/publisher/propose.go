package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/changefile"
	"github.com/lockstep-dev/lockstep/internal/config"
	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// edits are the flags that say what a change is.
type edits struct {
	file                   string
	environments, set, del []string
	said                   changefile.Said
	source                 string
	directory              ledger.Directory // where -f names a directory
}

func (e *edits) register(c *cli, cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&e.file, "file", "f", "", "change `FILE`, YAML or JSON, or a directory of manifests; - is standard input")
	f.StringArrayVar(&e.environments, "env", nil, "environment `NAME`, or a pattern such as 'prod-*' (repeatable)")
	f.StringArrayVar(&e.set, "set", nil, "set `KEY=VALUE`, the value being JSON or else a text; KEY:=JSON is always JSON (repeatable)")
	f.StringArrayVar(&e.del, "delete", nil, "delete `KEY` (repeatable)")
	f.StringVarP(&e.said.Reason, "message", "m", "", "say `WHY`")
	f.StringVar(&e.said.Ticket, "ticket", "", "it belongs to `TICKET`")
	f.DurationVar(&e.said.Within, "within", 0, "propagation window, as in 10m: how soon it must have been applied everywhere")
	f.BoolVar(&e.directory.Prune, "prune", false, "with a directory: delete resources that it does not have any more")
	f.IntVar(&e.directory.ConfirmMany, "confirm-many", 0, "with a directory: change or delete `N` resources, more than a fifth of an environment's")
	f.StringArrayVar(&e.directory.DropEdits, "drop-edits", nil, "with a directory: undo quick edits of resource `KEY` that it lacks (repeatable)")
	f.StringVar(&e.source, "source", "", "where it comes from, as `REPOSITORY@COMMIT#BUILD`")
	complete(cmd, "env", c.completeEnvironments)
	complete(cmd, "delete", c.completeResources)
}

// read is what the flags propose.
func (e *edits) read(c *cli, cmd *cobra.Command) (ledger.Propose, error) {
	directory := isDirectory(e.file)
	alone := []string{"set", "delete"}
	if !directory {
		alone = append(alone, "env")
	}
	for _, quick := range alone {
		if err := notTogether(cmd, "file", quick); err != nil {
			return ledger.Propose{}, err
		}
	}
	for _, name := range []string{"prune", "confirm-many", "drop-edits"} {
		if cmd.Flags().Changed(name) && !directory {
			return ledger.Propose{}, console.Usage(cmd, "--%s is for a directory; name one with -f", name)
		}
	}
	if cmd.Flags().Changed("within") && e.said.Within < time.Second {
		return ledger.Propose{}, console.Usage(cmd, "--within: want at least a second")
	}
	if e.source != "" {
		var err error
		if e.said.Source, err = changefile.ParseSource(e.source); err != nil {
			return ledger.Propose{}, err
		}
	}
	if directory {
		c.name(e.environments...)
		e.directory.Environments = e.environments
		if err := toSend(&e.directory, e.file); err != nil {
			return ledger.Propose{}, err
		}
		return e.said.Complete(ledger.Propose{Edits: []ledger.Edit{}, Directory: &e.directory})
	}
	if e.file == "" {
		c.name(e.environments...)
		return changefile.Quick(e.environments, e.set, e.del, e.said)
	}
	name, data, err := c.readFile(e.file)
	if err != nil {
		return ledger.Propose{}, err
	}
	p, err := changefile.Parse(name, data, e.said)
	if located, ok := errors.AsType[*config.Error](err); ok && located.Source != "" && isTerminal(c.stderr) {
		c.note("%s", brief(located.Source))
	}
	for _, edit := range p.Edits {
		c.name(edit.Environments...)
	}
	return p, err
}

// readFile reads a file, or standard input, and no more of it than a change file may hold: those who read one say what is wrong with more.
func (c *cli) readFile(path string) (string, []byte, error) {
	return c.readAtMost(path, config.MaxSize+1)
}

// readAtMost reads at most some bytes of a file, or of standard input.
func (c *cli) readAtMost(path string, most int64) (string, []byte, error) {
	name, stream := "stdin", c.stdin
	if path != "-" {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return path, nil, console.Exit(console.ExitFailure, fmt.Sprintf("there is no file %s; name one that is there", path))
		}
		if err != nil {
			return path, nil, err
		}
		defer f.Close()
		name, stream = path, f
	}
	data, err := io.ReadAll(io.LimitReader(stream, most))
	if err != nil {
		return name, nil, fmt.Errorf("read %s: %w", name, err)
	}
	return name, data, nil
}

func proposeCommand(c *cli) *cobra.Command {
	var e edits
	var w writing
	cmd := &cobra.Command{
		Use:   "propose (-f FILE | -f DIR | --env PATTERN (--set KEY=VALUE | --delete KEY)...) -m WHY",
		Short: "Propose a change",
		Long: `Propose a change to some environments. It is compiled at once to what it sets and deletes in each of them, and waits for
approval. The change's id goes to standard output, what it changes to standard error.

A change file says the same as the flags, and flags complete or replace what it says:

  apiVersion: lockstep/v1
  kind: Change
  reason: Lower the log level while we chase OPS-1     # or -m
  ticket: OPS-1                                        # optional, or --ticket
  within: 10m                                          # optional, or --within
  source: {repository: github.com/acme/shop, commit: 4f2c9d1, build: "118"}   # optional, or --source
  edits:
  - environments: [prod-eu, "stage-*"]
    set:
      variable/log-level: debug
    delete: [variable/old-switch]

A directory of manifests becomes the source of the environments that it declares, or of those that --env names: what it changes in each
of them is proposed. Deleting needs --prune, and changing more than a fifth of an environment's resources --confirm-many. Where a quick
edit was made since and the directory lacks it, that is a conflict: write it into the directory, or undo it with --drop-edits. See
'publisher check', 'publisher diff' and 'publisher render'.`,
		Example: `  publisher propose --env 'prod-*' --set variable/log-level=debug -m "chase OPS-1" --ticket OPS-1
  publisher propose --env dev --set 'flag/new-cart={"state":"ENABLED","variants":{"on":true}}' --set 'variable/version:="118"' -m "try it"
  publisher propose -f change.yaml --dry-run
  publisher propose -f environments/ -m "raise the limits" --ticket OPS-7`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := e.read(c, cmd)
			if err != nil {
				return err
			}
			return c.proposed(cmd, w, p, "proposed")
		},
	}
	e.register(c, cmd)
	w.register(cmd)
	return cmd
}

// proposed sends a proposal or a revision and says what becomes of it.
func (c *cli) proposed(cmd *cobra.Command, w writing, body ledger.Body, verb string) error {
	out, err := c.do(cmd.Context(), w, body)
	if err != nil {
		return err
	}
	return c.show(out, func() {
		if out.DryRun {
			c.line("%s", trim(effects(out.Effect)))
			c.remarks(out.Notes)
			c.note("dry run: nothing was %s", verb)
			return
		}
		c.line("%s", out.Change)
		if len(out.Effect) > 0 {
			c.note("%s", trim(effects(out.Effect)))
		}
		c.remarks(out.Notes)
		c.note("%s %s; somebody else approves it with 'publisher approve %s --as NAME'", verb, out.Change, out.Change)
	})
}

func provenance(p *events.Provenance) string {
	out := p.Repository
	if p.Commit != "" {
		out += "@" + p.Commit
	}
	if p.Build != "" {
		out += "#" + p.Build
	}
	return plain(out)
}
