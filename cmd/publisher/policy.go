package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/policy"
	"github.com/lockstep-dev/lockstep/internal/policy/starter"
	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func policyCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{Use: "policy", Short: "Test policies by tables of cases, and say which rule decided what about a change"}
	console.Group(cmd)
	cmd.AddCommand(policyTestCommand(c), policyExplainCommand(c), policyStarterCommand(c))
	return cmd
}

// policyTested is what became of the cases, as data.
type policyTested struct {
	Cases   []policy.Result `json:"cases"`
	Failed  int             `json:"failed"`
	Without []string        `json:"without"` // policies that have no case
}

func policyTestCommand(c *cli) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "test -f DIR",
		Short: "Judge the cases that are kept beside the policies, without a publisher",
		Long: `Judge the cases in the files of a directory that end in _test.yaml by its policies. Each case that is otherwise than it expects is a line on
standard output that begins with file and line. Exit code 5 when there is one, or none at all. Those files hold no manifests:

  apiVersion: lockstep/v1
  kind: PolicyTest
  policy: log-level
  cases:
  - name: debug is denied in production
    environment: {name: prod-eu, labels: {stage: prod}}   # and facts
    resource: variable/log-level                          # its manifest is the directory's, if that has one
    before: info                                          # absent: it is new
    after: debug                                          # absent: it is deleted
    change: {author: anna, ticket: OPS-1, reason: why}
    at: 2026-11-21T10:00:00Z
    elsewhere: {staging: {labels: {stage: staging}, value: info}}   # for parity
    expect: [Deny]     # Deny, Warn, RequireApproval, RequireTicket, Risk, Freeze; Allow: it matches, and no rule fires; []: it does not match
    message: debug     # is in what is said`,
		Example: `  publisher policy test -f environments/`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := named(cmd, "file", path, "-f DIR"); err != nil {
				return err
			}
			out, err := testPolicies(path)
			if err != nil {
				return err
			}
			if err := c.show(out, func() { c.showTested(out) }); err != nil {
				return err
			}
			invalid := api.ExitCode(&ledger.Error{Kind: ledger.KindInvalid})
			switch {
			case len(out.Cases) == 0:
				return console.Exit(invalid, "there is no case: write some into files that end in _test.yaml; see 'publisher policy test --help'")
			case out.Failed > 0:
				return console.Exit(invalid, fmt.Sprintf("%d of %s not as expected", out.Failed, plural(len(out.Cases), "case is", "cases are")))
			}
			return nil
		},
	}
	fromDirectory(cmd, &path)
	return cmd
}

func testPolicies(path string) (policyTested, error) {
	out := policyTested{Cases: []policy.Result{}, Without: []string{}}
	s, err := readDirectory(path)
	if err != nil {
		return out, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return out, fmt.Errorf("open the directory: %w", err)
	}
	defer root.Close()
	tables, err := policy.LoadTables(root.FS(), path)
	if err != nil {
		return out, err
	}
	results, without, err := policy.Test(s, tables)
	if err != nil {
		return out, &ledger.Error{Kind: ledger.KindInvalid, Message: err.Error(), Cause: err}
	}
	out.Cases, out.Without = append(out.Cases, results...), append(out.Without, without...)
	for _, r := range results {
		if !r.OK {
			out.Failed++
		}
	}
	return out, nil
}

func (c *cli) showTested(out policyTested) {
	policies := map[string]bool{}
	for _, r := range out.Cases {
		policies[r.Policy] = true
		if !r.OK {
			c.line("%s: %s: %s: %s", r.Place, r.Policy, plain(r.Case), plain(r.Says))
		}
	}
	for _, name := range out.Without {
		c.note("note: policy %s has no case", name)
	}
	if out.Failed == 0 && len(out.Cases) > 0 {
		c.note("%s of %s: all as expected", plural(len(out.Cases), "case", "cases"), plural(len(policies), "policy", "policies"))
	}
}

// A decided is what one rule said of one resource, as data.
type decided struct {
	Policy      string          `json:"policy"`
	Rule        string          `json:"rule,omitempty"`
	Action      string          `json:"action"`
	Environment string          `json:"environment"`
	Key         string          `json:"key"`
	Value       json.RawMessage `json:"value,omitempty"` // as proposed; none where it is deleted
	Says        string          `json:"says"`
	registry.Place
	More int `json:"more,omitempty"` // resources of which it says the same, and that are not listed
}

func policyExplainCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "explain ID",
		Short: "Say of a change which rule of which policy decided what, on which value",
		Long: `Say of a change what every policy that matched it decided when it was proposed: which rule, in which file and line, on which resource and
value. What a policy denies is never in the ledger: the refusal itself names the rule.`,
		Example:           `  publisher policy explain c7`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeChanges(),
		RunE: func(cmd *cobra.Command, args []string) error {
			publisher, _, err := c.connect()
			if err != nil {
				return err
			}
			change, err := publisher.Change(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			out := decisions(change)
			return c.show(out, func() { c.showDecisions(change.ID, out) })
		},
	}
}

// decisions are the verdicts on a change, each resource with its value.
func decisions(change fleet.Change) []decided {
	out := []decided{}
	for _, v := range change.Verdicts {
		for i, on := range v.On {
			d := decided{Policy: v.Policy, Rule: v.Rule, Action: v.Action, Environment: on.Environment, Key: on.Key, Value: proposed(change, on),
				Says: policy.Demand(v), Place: registry.Place{File: v.File, Line: v.Line}}
			if i == len(v.On)-1 {
				d.More = v.Total - len(v.On)
			}
			out = append(out, d)
		}
	}
	return out
}

// proposed is the value that a change proposes of a resource.
func proposed(change fleet.Change, on events.VerdictPlace) json.RawMessage {
	for _, e := range change.Environments {
		if e.Environment != on.Environment {
			continue
		}
		if i := slices.IndexFunc(e.Operations, func(op fleet.OperationView) bool { return op.Key == on.Key }); i >= 0 {
			return e.Operations[i].After
		}
	}
	return nil
}

func (c *cli) showDecisions(id string, out []decided) {
	if len(out) == 0 {
		c.note("no policy matched change %s when it was proposed", id)
		return
	}
	t := c.newTable("POLICY", "SAYS", "ENVIRONMENT", "RESOURCE", "VALUE", "WHY", "WHERE")
	more := 0
	for _, d := range out {
		is := "deleted"
		if d.Value != nil {
			is = brief(value(d.Value))
		}
		t.AppendRow([]any{d.Policy, d.Action, d.Environment, plain(d.Key), is, plain(d.Says), plain(strings.TrimPrefix(d.Rule+", ", ", ") + d.String())})
		more += d.More
	}
	c.print(t)
	if more > 0 {
		c.note("of %d more they say the same", more)
	}
}

func policyStarterCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "starter DIR",
		Short: "Write a pack of policies to start from, each with its cases",
		Long: `Write policies into a directory, each in a file with its cases beside it: TLS, log levels, approvals and tickets in production, a freeze at the
end of the year, flags that are in staging first, flags that somebody looks after, numbers that jump. They match environments by the label stage. A file that is there
already is never overwritten: nothing is written then.`,
		Example: `  publisher policy starter environments/policies
  publisher policy test -f environments/policies`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			names, err := fs.Glob(starter.Files(), "*.yaml")
			if err != nil {
				return err
			}
			for _, name := range names {
				if _, err := os.Lstat(filepath.Join(args[0], name)); !errors.Is(err, fs.ErrNotExist) {
					return console.Exit(console.ExitFailure, filepath.Join(args[0], name)+" is there already, and nothing was written; name another directory")
				}
			}
			if err := os.CopyFS(args[0], starter.Files()); err != nil {
				return err
			}
			c.note("wrote %s into %s; test them with 'publisher policy test -f %s'", plural(len(names), "file", "files"), args[0], args[0])
			return nil
		},
	}
}
