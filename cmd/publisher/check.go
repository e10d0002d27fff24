package main

import (
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/policy"
	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/internal/secretscan"
)

// A checked is what check found, as data.
type checked struct {
	Manifests    int                `json:"manifests"`
	Environments int                `json:"environments"`
	Problems     []string           `json:"problems"`
	Warnings     []registry.Finding `json:"warnings"`
}

func checkCommand(c *cli) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "check -f DIR",
		Short: "Check a directory of manifests, without a publisher",
		Long: `Read every manifest of a directory strictly, render every environment that it declares, and judge by its policies what can be judged
without knowing what was before and who proposes it. Each problem is a line on standard output that begins with file, line and column;
warnings go to standard error. Exit code 5 when there are problems. No publisher is needed: it is
for editors, pre-commit hooks and pull requests.`,
		Example: `  publisher check -f environments/`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := named(cmd, "file", path, "-f DIR"); err != nil {
				return err
			}
			files, err := loadDirectory(path)
			if err != nil {
				return err
			}
			out := checked{Problems: []string{}, Warnings: []registry.Finding{}}
			s, err := registry.Read(files)
			if err == nil {
				out.Manifests, out.Environments = len(s.Manifests()), len(s.Targets())
				out.Warnings, err = checkSources(s)
			}
			if problems, ok := errors.AsType[registry.Problems](err); ok {
				for _, p := range problems {
					out.Problems = append(out.Problems, p.Error())
				}
			} else if err != nil {
				return err
			}
			found := secrets(s)
			for _, f := range found {
				out.Problems = append(out.Problems, f.Place.String()+": "+f.String())
			}
			if err := c.show(out, func() { c.showChecked(out) }); err != nil || len(out.Problems) == 0 {
				return err
			}
			if len(found) > 0 {
				c.note("what to do about secrets: %s", secretscan.Remedy)
			}
			return console.Exit(api.ExitCode(&ledger.Error{Kind: ledger.KindInvalid}), plural(len(out.Problems), "problem", "problems")+"; nothing of this can be proposed")
		},
	}
	fromDirectory(cmd, &path)
	return cmd
}

// secrets are the values of manifests that look like secrets; manifests that cannot be read have none.
func secrets(s *registry.Sources) []secretscan.Finding {
	if s == nil {
		return nil
	}
	return secretscan.Sources(s)
}

// checkSources looks for what is wrong, and for what is suspicious.
func checkSources(s *registry.Sources) ([]registry.Finding, error) {
	found, err := registry.Check(s, time.Now())
	if err != nil {
		return found, err
	}
	warned, err := policy.Check(s)
	return append(found, warned...), err
}

func (c *cli) showChecked(out checked) {
	for _, p := range out.Problems {
		c.line("%s", plain(p))
	}
	for _, w := range out.Warnings {
		c.note("warning: %s", plain(strings.TrimPrefix(w.String(), ":0: ")))
	}
	if len(out.Problems) == 0 {
		c.note("%s for %s: no problems", plural(out.Manifests, "manifest", "manifests"), plural(out.Environments, "environment", "environments"))
	}
}
