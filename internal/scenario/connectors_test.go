package scenario

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/connector/build"
	"github.com/lockstep-dev/lockstep/internal/connector/exec"
	"github.com/lockstep-dev/lockstep/internal/connector/file"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A connector fails when a part of a release was applied already. In the environment it is about, a variable with the value "refused"
// is what it cannot do.
var halfway = []scenario{
	{"connector fails halfway: several files, which the application refuses", 1, func(w *world) {
		a := w.join("env-files", reloads("exit 2"))
		w.release(set(a.environment, "x", "first"))
		w.fails(a, connector.ReasonReloadFailed)
		w.release(set(a.environment, "x", "taken"))
	}},
	{"connector fails halfway: several files, which the application cannot take now", 1, func(w *world) {
		a := w.join("env-files", reloads("exit 1"))
		w.release(set(a.environment, "x", "first"))
		w.settle()
		w.release(halfRefused(a))
		w.stands(a, standing{fleet.Behind, connector.ReasonReloadFailed, 2})
		w.release(set(a.environment, "x", "taken"))
	}},
	{"connector fails halfway: a program", 1, func(w *world) {
		a := w.join("env-program", programmed(w))
		w.release(set(a.environment, "x", "first"))
		w.fails(a, connector.ReasonExecFailed)
		w.release(set(a.environment, "x", "taken"))
	}},
	{"connector fails halfway, and the undo fails too: torn", 1, func(w *world) {
		a := w.join("env-program", programmed(w))
		w.release(set(a.environment, "x", "first"))
		w.settle()
		broken := filepath.Join(filepath.Dir(a.settings.Root), "broken-after-refusal")
		must(w.t, os.WriteFile(broken, nil, 0o600))
		w.release(halfRefused(a))
		w.stands(a, standing{fleet.Torn, events.ReasonUndo, 2})
		w.delivered(a, events.WordTorn, events.ReasonUndo)
		a.kill() // a restart changes nothing
		a.start()
		w.stands(a, standing{fleet.Torn, events.ReasonUndo, 2})
		must(w.t, os.Remove(broken)) // the steward mends it; the agent puts back by itself, and says what was wrong
		w.stands(a, standing{fleet.Failing, connector.ReasonExecFailed, 2})
		if err := a.instanceAt(2); err != nil {
			w.t.Error(err)
		}
		w.release(set(a.environment, "x", "taken"))
	}},
}

// join adds an environment with an agent whose settings are other ones.
func (w *world) join(environment string, change func(*settings)) *inst {
	w.t.Helper()
	w.do("op", ledger.AddEnvironment{Name: environment, Approvals: 1})
	a := w.enrol(environment, change)
	w.agents = append(w.agents, a)
	return a
}

// reloads lets the application refuse its new files, when both are there, by ending like this.
func reloads(ending string) func(*settings) {
	return func(s *settings) {
		s.Connectors = []build.Config{{Name: "files", File: &file.Config{Root: s.Root, Files: instanceFiles,
			Reload: &file.Reload{Command: []string{"sh", "-c", "! grep -q refused app/variables.json || " + ending}}}}}
	}
}

// programmed is the example program, which gives up at a value that it refuses; from then on it does nothing any more where there is a
// file that says so.
func programmed(w *world) func(*settings) {
	return func(s *settings) {
		b, err := os.ReadFile("../../examples/exec-connector/one-file-each.sh")
		must(w.t, err)
		marker := filepath.Join(filepath.Dir(s.Root), "broken-after-refusal")
		text := strings.Replace(string(b), "put() { # put KEY VALUE\n", `put() {
	if [ "$2" = '"refused"' ]; then
		if [ -e "`+marker+`" ]; then echo yes >"`+marker+`"; fi
		echo 'not this one' >&2
		exit 2
	fi
	if [ -s "`+marker+`" ]; then
		echo 'broken' >&2
		exit 1
	fi
`, 1)
		script := filepath.Join(filepath.Dir(s.Root), "program.sh")
		must(w.t, os.WriteFile(script, []byte(text), 0o700))
		s.Connectors = []build.Config{{Name: "program", Resources: []connector.Glob{"variable/*", "endpoint/*"},
			Exec: &exec.Config{Command: []string{script, s.Root}, Observes: true}}}
	}
}

// halfRefused is an edit whose first part can be applied.
func halfRefused(a *inst) ledger.Edit {
	return ledger.Edit{Environments: []string{a.environment}, Set: map[string]json.RawMessage{
		"endpoint/x": json.RawMessage(`"half"`), "variable/x": json.RawMessage(`"refused"`)}}
}

// fails releases what the connector cannot do: the instance is put back, the ledger has a failed ack with the reason, and a restart or
// nothing makes it better.
func (w *world) fails(a *inst, reason events.Reason) {
	w.t.Helper()
	w.settle()
	w.release(halfRefused(a))
	failing := standing{fleet.Failing, reason, 2}
	w.stands(a, failing)
	w.delivered(a, events.WordFailed, reason)
	if err := a.instanceAt(2); err != nil {
		w.t.Error(err)
	}
	a.kill()
	a.startAlone()
	if err := a.instanceAt(2); err != nil {
		w.t.Error(err)
	}
	a.link.heal()
	w.stands(a, failing)
}

// stands waits until an environment stands like this and all others are in step.
func (w *world) stands(a *inst, is standing) {
	w.t.Helper()
	var short error
	defer func() {
		if w.t.Failed() {
			w.t.Log(short)
		}
	}()
	bustest.Eventually(w.t, a.environment+" is "+string(is.condition)+", "+string(is.reason), func() bool {
		short = w.short(map[string]standing{a.environment: is})
		return short == nil
	})
}

// delivered waits until the ledger has an agent's statement about the newest revision.
func (w *world) delivered(a *inst, word events.Word, reason events.Reason) {
	w.t.Helper()
	bustest.Eventually(w.t, "the ledger has an ack of "+a.environment+" that says "+string(word), func() bool {
		w.read()
		e := w.state.Environments[a.environment]
		open := e.Agents["one"].Open
		return open != nil && open.Word == word && open.Reason == reason && open.Message != "" && open.Last == e.Head()
	})
}
