// Package exec is the connector for everything that a program can configure: a SaaS API, a low-code tool's CLI, a database. The
// program is an argument array, never a shell line; it is run once for each request.
//
// # Protocol 1
//
// The program reads one JSON object from stdin and writes one to stdout. Requests are written one member or list item a line, values
// compact and in canonical form, so that a shell script can read them by lines; keys need no escaping. An observe asks what the
// instance holds:
//
//	{
//	"protocol":1,
//	"verb":"observe",
//	"keys":[
//	"flag/checkout",
//	"variable/log-level"
//	]
//	}
//
// and is answered with the keys that are there: {"values":{"variable/log-level":"debug"}}. An apply says what to change:
//
//	{
//	"protocol":1,
//	"verb":"apply",
//	"idempotencyKey":"9f86d081884c7d65...",
//	"delete":[
//	"flag/checkout"
//	],
//	"set":{
//	"variable/log-level":"info"
//	}
//	}
//
// and is answered with {} or nothing. The same change has the same idempotency key; an apply may come again, and must then change
// nothing more. Unknown members of an answer are ignored; a member of the wrong type, a key that stands twice or was not asked for,
// and integers beyond ±(2^53−1) are refused.
//
// Exit code 0 is success, 1 a failure worth a retry, 2 one that the same values would meet again; others count as 1. The last line of
// stderr is shown in the agent's errors and acks, unless it holds a text of the request. At the timeout the whole process group is
// killed. The environment holds PATH, HOME, USER, LANG, LC_ALL, TZ, TMPDIR and what the configuration names.
package exec

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/connector/program"
	"github.com/lockstep-dev/lockstep/internal/fault"
)

// Config is the configuration of one exec connector, under the key "exec" in the agent's file.
type Config struct {
	Command  []string      `yaml:"command"`  // program and arguments; runs in the directory of the agent's file
	Timeout  time.Duration `yaml:"timeout"`  // of each request; default 10s
	Atomic   bool          `yaml:"atomic"`   // the program changes all or nothing; default false: a failed apply is put back key by key
	Observes bool          `yaml:"observes"` // the program answers observe; default false: nothing is read back, and nothing can be proven
	Env      []string      `yaml:"env"`      // names of environment variables passed to it besides the usual ones

	Fault fault.Hook `yaml:"-" json:"-"` // told of every durable step; for tests
}

const defaultTimeout = 10 * time.Second

// Validate names the field that cannot work.
func (c Config) Validate() error {
	if c.Atomic && !c.Observes {
		return errors.New("atomic: a program that does not observe cannot prove it: set observes, or leave atomic out")
	}
	return c.program("").Validate()
}

func (c Config) program(dir string) program.Program {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	return program.Program{Command: c.Command, Dir: dir, Env: c.Env, Timeout: timeout, Reason: connector.ReasonExecFailed}
}

// A Connector configures an instance through a program. Everything it holds is one unit.
type Connector struct {
	name    string
	config  Config
	program program.Program

	unit  connector.Unit        // of the last Apply
	image connector.ValuesImage // of the last Apply; without observing: nil
	known connector.Values      // without observing: what this process applied; nil when it cannot know
	back  connector.Values      // without observing: known before the last Apply
}

var _ connector.Connector = (*Connector)(nil)

// Open checks the configuration. Commands run in dir.
func Open(name string, c Config, dir string) (*Connector, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &Connector{name: name, config: c, program: c.program(dir)}, nil
}

// Name implements connector.Connector.
func (c *Connector) Name() string { return c.name }

// Capabilities implements connector.Connector.
func (c *Connector) Capabilities() connector.Capabilities {
	atomicity := connector.Compensating
	switch {
	case !c.config.Observes:
		atomicity = connector.NotAtomic
	case c.config.Atomic:
		atomicity = connector.Atomic
	}
	return connector.Capabilities{Atomicity: atomicity, Observes: c.config.Observes, Costly: true}
}

// Normal implements connector.Connector.
func (c *Connector) Normal(key string, value json.RawMessage) (json.RawMessage, error) {
	return connector.Canonical(key, value)
}

// Observe implements connector.Connector; without observing it is a permanent error.
func (c *Connector) Observe(ctx context.Context, want connector.Values) (connector.Values, error) {
	if !c.config.Observes {
		return nil, connector.Permanent(connector.ReasonUnreadable, "connector %s does not observe", c.name)
	}
	return c.observe(ctx, want.Keys())
}

func (c *Connector) observe(ctx context.Context, keys []string) (connector.Values, error) {
	if len(keys) == 0 {
		return connector.Values{}, nil
	}
	answer, err := c.program.Run(ctx, observeRequest(keys))
	if err != nil {
		return nil, err
	}
	values, err := readValues(answer, keys)
	if err != nil {
		return nil, connector.Permanent(connector.ReasonExecFailed, "%s: the answer to observe: %w", c.config.Command[0], err)
	}
	return values, nil
}

// change is what a plan carries to Apply.
type change struct {
	image connector.ValuesImage // nil without observing
	set   connector.Values
}

// Plan implements connector.Connector. Without observing, everything is planned that this process has not applied itself.
func (c *Connector) Plan(ctx context.Context, want connector.Values) (connector.Plan, error) {
	if err := ctx.Err(); err != nil {
		return connector.Plan{}, connector.Failed(connector.ReasonTimeout, err)
	}
	normal, err := connector.NormalValues(c, want)
	if err != nil {
		return connector.Plan{}, err
	}
	if !c.config.Observes {
		return c.planBlind(normal), nil
	}
	held, err := c.observe(ctx, want.Keys())
	if err != nil {
		return connector.Plan{}, err
	}
	before, after := connector.Differing(held, normal)
	image := connector.NewValuesImage(before, after)
	return c.plan(before, after, image.Unit(c.name, unitID), image), nil
}

const unitID = "values"

func (c *Connector) planBlind(want connector.Values) connector.Plan {
	unit := connector.NewValuesImage(nil, want).Unit(c.name, unitID)
	unit.Before = "unknown"
	if c.knows(want) {
		if _, after := connector.Differing(c.known, want); len(after) == 0 {
			return connector.Plan{}
		}
	}
	return c.plan(c.known, want, unit, nil)
}

// knows says whether this process has applied, or deleted, each of the keys.
func (c *Connector) knows(want connector.Values) bool {
	for k := range want {
		if _, known := c.known[k]; !known {
			return false
		}
	}
	return true
}

func (c *Connector) plan(before, after connector.Values, unit connector.Unit, image connector.ValuesImage) connector.Plan {
	if len(after) == 0 {
		return connector.Plan{}
	}
	plan := connector.Plan{Units: []connector.Unit{unit}, Stage: change{image, after}}
	for _, k := range after.Keys() {
		plan.Changes = append(plan.Changes, connector.Change{Key: k, Place: c.name + " " + k, Before: before[k], After: after[k]})
	}
	return plan
}

// Prepare implements connector.Connector. Without observing there is no pre-image.
func (c *Connector) Prepare(ctx context.Context, plan *connector.Plan, dir string) error {
	if err := ctx.Err(); err != nil {
		return connector.Failed(connector.ReasonTimeout, err)
	}
	staged, _ := plan.Stage.(change)
	if staged.image == nil {
		return nil
	}
	return staged.image.Save(dir, &plan.Units[0], c.config.Fault)
}

// Apply implements connector.Connector.
func (c *Connector) Apply(ctx context.Context, plan connector.Plan) error {
	if err := ctx.Err(); err != nil {
		return connector.Failed(connector.ReasonTimeout, err)
	}
	staged, ok := plan.Stage.(change)
	if !ok {
		return nil
	}
	if staged.image != nil {
		held, err := c.observe(ctx, staged.image.Keys())
		if err != nil {
			return err
		}
		if _, err := staged.image.Back(held); err != nil {
			return err
		}
	}
	c.unit, c.image = plan.Units[0], staged.image
	if c.back = nil; c.knows(staged.set) {
		c.back = c.known
	}
	c.known = nil
	if err := c.send(ctx, staged.set); err != nil {
		return err
	}
	c.known = staged.set
	return nil
}

// send runs an apply.
func (c *Connector) send(ctx context.Context, values connector.Values) error {
	if len(values) == 0 {
		return nil
	}
	answer, err := c.program.Run(ctx, applyRequest(values))
	if err != nil {
		return discreet(err, values)
	}
	if err := readDone(answer); err != nil {
		return connector.Permanent(connector.ReasonExecFailed, "%s: the answer to apply: %w", c.config.Command[0], err)
	}
	return nil
}

// secretLength is the length in bytes from which a text of the request is kept out of errors.
const secretLength = 8

// discreet is err, without its text when a program wrote one of the values' texts into it.
func discreet(err error, values connector.Values) error {
	message := err.Error()
	for _, v := range values {
		var tree any
		if json.Unmarshal(v, &tree) == nil && tells(message, tree) {
			e := connector.AsError(err)
			return &connector.Error{Reason: e.Reason, Permanent: e.Permanent,
				Err: errors.New("the program failed; what it wrote to stderr holds a value and is not shown")}
		}
	}
	return err
}

func tells(message string, tree any) bool {
	switch t := tree.(type) {
	case string:
		return len(t) >= secretLength && strings.Contains(message, t)
	case []any:
		for _, item := range t {
			if tells(message, item) {
				return true
			}
		}
	case map[string]any:
		for _, item := range t {
			if tells(message, item) {
				return true
			}
		}
	}
	return false
}

// Undo implements connector.Connector: the values before are applied through the same program. Without observing, only this process
// can put back what it applied over its own earlier values; otherwise nothing can be proven.
func (c *Connector) Undo(ctx context.Context, units []connector.Unit) error {
	if err := ctx.Err(); err != nil {
		return connector.Failed(connector.ReasonTimeout, err)
	}
	for _, u := range units {
		undo := c.undoObserved
		if !c.config.Observes {
			undo = c.undoBlind
		}
		if err := undo(ctx, u); err != nil {
			return err
		}
	}
	return nil
}

func (c *Connector) undoObserved(ctx context.Context, u connector.Unit) error {
	image := c.image
	if u.Before != c.unit.Before || u.After != c.unit.After {
		var err error
		if image, err = connector.LoadValuesImage(u); err != nil {
			return err
		}
	}
	held, err := c.observe(ctx, image.Keys())
	if err != nil {
		return err
	}
	back, err := image.Back(held)
	if err != nil {
		return err
	}
	return c.send(ctx, back)
}

func (c *Connector) undoBlind(ctx context.Context, u connector.Unit) error {
	if u.After != c.unit.After || c.back == nil {
		return connector.Permanent(connector.ReasonPreImageLost,
			"connector %s does not observe and did not apply what was there before: nothing can be proven; compare the instance by hand", c.name)
	}
	if err := c.send(ctx, c.back); err != nil {
		return err
	}
	c.known = c.back
	return nil
}
