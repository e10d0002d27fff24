package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/changefile"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/registry"
)

// An upgraded is what another version of its template means for an environment, as data.
type upgraded struct {
	Environment string              `json:"environment"`
	From        string              `json:"from,omitempty"` // version of the template
	To          string              `json:"to"`
	Differences []registry.Upgraded `json:"differences"`
	Problems    []string            `json:"problems"` // what the environment would break
}

func envUpgradeCommand(c *cli) *cobra.Command {
	var path, to string
	var said changefile.Said
	var directory ledger.Directory
	var w writing
	cmd := &cobra.Command{
		Use:   "upgrade ENV --to VERSION -f DIR [-m WHY]",
		Short: "Show what another version of its template means for an environment, and propose it",
		Long: `Show, for every value that differs, what the environment's template says in the version that it has and in the new one, and what the
environment itself has and would have: where those two are the same, its own override stays. No publisher is needed for that.

With -m the new version is proposed for this environment, and then written into its manifest in the directory: commit that. Both versions
of the template must be in the directory, as two manifests of one name.`,
		Example: `  publisher env upgrade prod-eu --to 1.5.0 -f environments/
  publisher env upgrade prod-eu --to 1.5.0 -f environments/ -m "the larger pool" --ticket OPS-7`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := named(cmd, "file", path, "-f DIR"); err != nil {
				return err
			}
			if err := named(cmd, "to", to, "--to VERSION"); err != nil {
				return err
			}
			files, err := loadDirectory(path)
			if err != nil {
				return err
			}
			pinned, place, err := registry.Pin(files, args[0], to)
			if err != nil {
				return &ledger.Error{Kind: ledger.KindInvalid, Message: err.Error(), Cause: err}
			}
			out, err := compareUpgrade(files, pinned, args[0])
			if err != nil {
				return err
			}
			if said.Reason == "" {
				return c.show(out, func() { c.showUpgrade(out) })
			}
			directory.Files, directory.Environments = pinned, args
			s, err := directory.Sources()
			if err == nil {
				err = noSecrets(s)
			}
			if err != nil {
				return err
			}
			p, err := said.Complete(ledger.Propose{Edits: []ledger.Edit{}, Directory: &directory})
			if err != nil {
				return err
			}
			if err := c.proposed(cmd, w, p, "proposed"); err != nil || w.dryRun {
				return err
			}
			return c.writePin(path, pinned, place)
		},
	}
	fromDirectory(cmd, &path)
	f := cmd.Flags()
	f.StringVar(&to, "to", "", "`VERSION` of the template")
	f.StringVarP(&said.Reason, "message", "m", "", "propose it, and say `WHY`")
	f.StringVar(&said.Ticket, "ticket", "", "it belongs to `TICKET`")
	f.BoolVar(&directory.Prune, "prune", false, "delete resources that it does not have any more")
	f.IntVar(&directory.ConfirmMany, "confirm-many", 0, "change or delete `N` resources, more than a fifth of the environment's")
	w.register(cmd)
	return cmd
}

// compareUpgrade compares an environment before and after, and judges it after.
func compareUpgrade(files, pinned []registry.File, environment string) (upgraded, error) {
	out := upgraded{Environment: environment, Differences: []registry.Upgraded{}, Problems: []string{}}
	var sources [2]*registry.Sources
	var err error
	for i, list := range [][]registry.File{files, pinned} {
		if sources[i], err = (&ledger.Directory{Files: list}).Sources(); err != nil {
			return out, err
		}
	}
	t, err := target(sources[1], environment)
	if err != nil {
		return out, err
	}
	differences, err := registry.Upgrade(sources[0], sources[1], t)
	if err != nil {
		return out, &ledger.Error{Kind: ledger.KindInvalid, Message: err.Error(), Cause: err}
	}
	out.Differences = append(out.Differences, differences...)
	for i, version := range []*string{&out.From, &out.To} {
		chain, err := sources[i].Chain(environment)
		if err != nil {
			return out, err
		}
		*version = chain[len(chain)-1].Template().Version
	}
	r := registry.NewRenderer()
	rendering, err := r.Render(sources[1], t)
	if err != nil {
		return out, err
	}
	verdict, err := r.Judge(registry.Case{Sources: sources[1], Rendering: rendering}, time.Now())
	for _, v := range verdict.Violations {
		out.Problems = append(out.Problems, v.String())
	}
	return out, err
}

func (c *cli) showUpgrade(out upgraded) {
	t := c.newTable("RESOURCE", "PATH", "TEMPLATE "+dash(out.From), "TEMPLATE "+out.To, "NOW", "THEN")
	for _, d := range out.Differences {
		then := side(d.Then)
		if string(d.Now) == string(d.Then) {
			then = "stays"
		}
		t.AppendRow([]any{d.Resource, dash(d.Path), side(d.Old), side(d.New), side(d.Now), then})
	}
	if len(out.Differences) == 0 {
		c.note("no value of %s differs between the two versions", out.Environment)
	} else {
		c.print(t)
	}
	for _, p := range out.Problems {
		c.note("would be refused: %s", plain(p))
	}
}

func side(v json.RawMessage) string {
	if v == nil {
		return "-"
	}
	return value(v)
}

// writePin writes the one file in which the new version stands.
func (c *cli) writePin(path string, pinned []registry.File, place registry.Place) error {
	i := slices.IndexFunc(pinned, func(f registry.File) bool { return f.Name == place.File })
	name, err := filepath.Rel(path, place.File)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.WriteFile(name, []byte(pinned[i].Text), 0o644); err != nil {
		return fmt.Errorf("it is proposed, but the version was not written to %s: %w", place, err)
	}
	c.note("wrote the version to %s; commit it", place)
	return nil
}
