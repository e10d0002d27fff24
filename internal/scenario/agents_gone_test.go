package scenario

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/connector/build"
	"github.com/lockstep-dev/lockstep/internal/connector/exec"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A fate befalls the agent of an environment of its own. From then on the environment is in another state, and every screen says which one,
// why, and what to do.
type fate struct {
	environment string
	settings    func(*settings)
	befalls     func(w *world, a *inst) (mended func())
	state       fleet.Condition
	said        []string // on the overview and on the page of the environment
	alarm       string   // the rule that tells of it; empty: none is meant to
}

// Those that show at once come first; the others need three beats.
var fates = []fate{
	{"does-not-hear-the-publisher", nil, func(w *world, a *inst) func() {
		a.link.lose(events.SubjectPulse)
		return func() { a.link.lose("") }
	}, fleet.Stale, []string{string(events.ReasonNoPulse), "1 of 1", "publisher doctor"}, ""},
	{"has-an-old-checkpoint", nil, func(w *world, a *inst) func() {
		return a.restoredFromBefore(func() {
			w.release(set(a.environment, "x", "second"))
			w.release(set(a.environment, "x", "third"))
		})
	}, fleet.Behind, []string{"2 / 4", "2 revs", "though it acknowledged 4 before"}, ""},
	{"apply-does-not-end", hanging("apply"), func(w *world, a *inst) func() {
		mended := a.hangs()
		change := w.do("anna", ledger.Propose{Reason: "it is never applied", Within: 1, Edits: []ledger.Edit{set(a.environment, "x", "second")}}).Change
		w.do("ben", ledger.Approve{Change: change, Digest: w.digest(change)})
		return mended
	}, fleet.Behind, []string{string(connector.ReasonTimeout), "the connector does not answer", "2 / 3", "agent status", "publisher rollback"}, "late"},
	{"look-does-not-end", hanging("observe"), func(w *world, a *inst) func() { return a.hangs() },
		fleet.Differing, []string{string(connector.ReasonTimeout), "cannot be compared", "2 / 2"}, "differing"},
	{"is-killed", nil, func(w *world, a *inst) func() {
		a.kill()
		return a.start
	}, fleet.Silent, []string{"unheard for", "0 of 1", "agent status"}, "silent"},
	{"is-frozen", nil, func(w *world, a *inst) func() { // its connection to the bus stays open
		a.process.signal(w.t, syscall.SIGSTOP)
		return func() { a.process.signal(w.t, syscall.SIGCONT) }
	}, fleet.Silent, []string{"unheard for", "0 of 1", "agent status"}, "silent"},
	{"is-cut-off", nil, func(w *world, a *inst) func() {
		a.link.cut()
		w.release(set(a.environment, "x", "while it is cut off"))
		return a.link.heal
	}, fleet.Silent, []string{"unheard for", "0 of 1", "2 / 3", "1 rev"}, "silent"},
	{"one-of-two-is-killed", nil, func(w *world, a *inst) func() {
		a.twin.kill()
		return a.twin.start
	}, fleet.Silent, []string{"two: unheard for", "1 of 2"}, "silent"},
}

// TestWhateverBefallsAnAgentNoScreenIsGreen: agents in processes of their own die, freeze, hang, lose the bus, and come back from an old
// image or with a wrong clock; and whoever then looks, with a browser, a terminal or Prometheus, at the publisher that leads or at the one
// that stands by, sees what it is.
func TestWhateverBefallsAnAgentNoScreenIsGreen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 2, 0)
	nobody := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(nobody.Close)
	for _, p := range w.publishers {
		p.kill()
		p.settings.Alarms = "targets: [{name: oncall, url: " + nobody.URL + "}]\nrules: {silent: {after: 0s}}"
		p.start()
	}
	for _, f := range fates {
		a := w.join(f.environment, func(s *settings) {
			if f.settings != nil {
				f.settings(s)
			}
		})
		if f.environment == "one-of-two-is-killed" {
			a.twin = w.enrolAs(f.environment, "two")
		}
	}
	clock := w.join("clock-is-off", func(*settings) {})
	w.release(set("*", "x", "first"))
	w.settle()
	green := fmt.Sprintf("All %d environments are in step", len(w.agents))
	for _, p := range w.publishers {
		w.waits("everything is green before", func() bool { return p.page("/").headline() == green })
	}

	mended := make([]func(), len(fates))
	for i, f := range fates {
		mended[i] = f.befalls(w, w.agent(f.environment))
	}
	w.deaf(w.publishers[1], clock)
	for _, off := range []time.Duration{time.Hour, -time.Hour, 30 * time.Second} {
		w.skewed(clock, off)
	}
	for _, f := range fates {
		w.shows(f)
	}
	for _, p := range w.publishers {
		w.waits("the overview counts them", func() bool {
			return p.page("/").headline() == fmt.Sprintf("%d of %d environments are not in step", len(fates), len(w.agents))
		})
		w.waits("publisher status lists them", func() bool {
			lines := w.listed(p)
			return !slices.ContainsFunc(fates, func(f fate) bool {
				if says(lines[f.environment], fleet.InStep) {
					t.Errorf("publisher status: %s", lines[f.environment])
				}
				return !says(lines[f.environment], f.state)
			})
		})
	}
	for _, mend := range mended {
		mend()
	}
	w.settle()
	for _, p := range w.publishers {
		w.waits("everything is green again", func() bool { return p.page("/").headline() == green })
	}
}

// waits looks now and then, as a person does.
func (w *world) waits(what string, so func() bool) {
	w.t.Helper()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	again := false
	bustest.Eventually(w.t, what, func() bool {
		if again {
			<-tick.C
		}
		again = true
		return so()
	})
}

// shows waits until the overview shows what befell an environment, and then until every other screen does. From then on none of them calls
// it in step; and all the while nothing is called so whose agents were not heard for three beats, by the publisher's own clock.
func (w *world) shows(f fate) {
	w.t.Helper()
	var last string
	defer func() {
		if w.t.Failed() {
			w.t.Logf("%s at last: %s", f.environment, last)
		}
	}()
	shown := false
	fits := func(is string, words string) bool {
		last = words
		if shown && is == string(fleet.InStep) {
			w.t.Errorf("%s was shown as %s, and is called in step: %s", f.environment, f.state, words)
		}
		if is != string(f.state) {
			return false
		}
		return !slices.ContainsFunc(f.said, func(word string) bool { return !strings.Contains(words, word) })
	}
	for _, p := range w.publishers {
		w.waits("the overview shows "+f.environment, func() bool {
			w.unheardIsNotGreen(p)
			row := p.page("/").row(f.environment)
			return fits(state(w.t, row), seen(row))
		})
		shown = true
		w.waits("its page shows "+f.environment, func() bool {
			all := p.page("/environments/" + f.environment).all()
			return fits(state(w.t, all), seen(all))
		})
		w.waits("the metrics show "+f.environment, func() bool {
			return fits(w.measured(p, f.environment), strings.Join(f.said, " "))
		})
	}
	if f.alarm != "" { // the publisher that leads tells of it
		w.waits("an alarm tells of "+f.environment, func() bool {
			last = seen(w.publishers[0].page("/alarms").all()) + seen(w.publishers[1].page("/alarms").all())
			return strings.Contains(last, f.alarm+" "+f.environment)
		})
	}
}

// unheardIsNotGreen compares what a publisher says of each agent with when it heard it.
func (w *world) unheardIsNotGreen(p *pub) {
	w.t.Helper()
	ctx, cancel := w.context()
	defer cancel()
	v, err := p.calls().Fleet(ctx)
	must(w.t, err)
	for _, e := range v.Environments {
		for _, a := range e.Agents {
			if unheard := v.AsOf.Sub(a.LastSeen); unheard > fleet.SilentAfter && (a.Condition == fleet.InStep || e.Condition == fleet.InStep) {
				w.t.Errorf("%s was not heard for %s and is called %s, its environment %s", e.Name, unheard, a.Condition, e.Condition)
			}
		}
	}
}

// listed is what publisher status says of each environment.
func (w *world) listed(p *pub) map[string]string {
	w.t.Helper()
	said, _ := run(w.t, "publisher", "status", "--server", p.calls().Server())
	lines := map[string]string{}
	for line := range strings.Lines(said) {
		if fields := strings.Fields(line); len(fields) > 0 {
			lines[fields[0]] = line
		}
	}
	for _, a := range w.agents {
		if lines[a.environment] == "" {
			w.t.Errorf("publisher status says nothing of %s: %s", a.environment, said)
		}
	}
	return lines
}

// says says whether a line of publisher status has a state.
func says(line string, c fleet.Condition) bool { return strings.Contains(line, "  "+string(c)+"  ") }

// measured is the state that Prometheus reads of an environment: one, and none of the others.
func (w *world) measured(p *pub, environment string) (is string) {
	w.t.Helper()
	_, metrics := get(w.t, p.calls().Server()+"/metrics")
	for _, c := range fleet.Conditions {
		switch series := fmt.Sprintf("\nlockstep_environment_state{environment=%q,state=%q} ", environment, c); {
		case strings.Contains(metrics, series+"1\n") && is == "":
			is = string(c)
		case !strings.Contains(metrics, series+"0\n"):
			w.t.Errorf("%s is %s, and the metrics do not say that it is not %s", environment, is, c)
		}
	}
	return is
}

// deaf cuts a publisher off: what it knew last is not what is, and it says of nobody any more that they are in step. The other one goes on.
func (w *world) deaf(p *pub, green *inst) {
	w.t.Helper()
	p.link.cut()
	w.waits("a publisher without the bus calls nothing in step", func() bool {
		overview := p.page("/")
		return overview.headline() == fmt.Sprintf("None of %d environments is in step", len(w.agents)) &&
			strings.Contains(seen(overview.all()), "The bus is not reachable since") && strings.Contains(seen(overview.row(green.environment)), string(events.ReasonBusDown))
	})
	if is := w.measured(p, green.environment); is != string(fleet.Silent) {
		w.t.Errorf("the metrics of a publisher without the bus say %s", is)
	}
	for environment, line := range w.listed(p) {
		if says(line, fleet.InStep) || environment == green.environment && !strings.Contains(line, string(events.ReasonBusDown)) {
			w.t.Errorf("publisher status says of %s: %s", environment, line)
		}
	}
	w.waits("the other publisher goes on", func() bool {
		return state(w.t, w.publishers[0].page("/").row(green.environment)) == string(fleet.InStep)
	})
	p.link.heal()
	w.waits("it hears again", func() bool { return state(w.t, p.page("/").row(green.environment)) == string(fleet.InStep) })
}

// skewed turns an agent's clock: nothing is wrong with the environment, and it says how far the clock is off.
func (w *world) skewed(a *inst, off time.Duration) {
	w.t.Helper()
	a.process.turnClock(w.t, off)
	named := "clock off: of one by " + map[time.Duration]string{time.Hour: "+1h", -time.Hour: "−1h", 30 * time.Second: "+"}[off]
	w.waits("the overview says how far the clock is off", func() bool {
		row := w.publishers[0].page("/").row(a.environment)
		return strings.Contains(seen(row), named) && state(w.t, row) == string(fleet.InStep)
	})
	if line := w.listed(w.publishers[0])[a.environment]; !strings.Contains(line, named) {
		w.t.Errorf("publisher status says nothing of a clock that is off by %s: %s", off, line)
	}
}

// restoredFromBefore brings an agent and its instance back to where they were before something, as from a backup of the whole machine, and
// keeps it there: what it missed does not reach it.
func (a *inst) restoredFromBefore(something func()) (mended func()) {
	w, backup := a.w, shortDir(a.w.t)
	kept := map[string]string{filepath.Join(a.settings.State, "agent.db"): filepath.Join(backup, "agent.db")}
	for _, f := range instanceFiles {
		kept[filepath.Join(a.settings.Root, f.Path)] = filepath.Join(backup, f.Path)
	}
	a.kill()
	for from, to := range kept {
		copyFile(w.t, from, to)
	}
	a.start()
	something()
	w.waits("everything before is applied and seen", func() bool {
		return strings.Contains(seen(w.publishers[0].page("/").row(a.environment)), "4 / 4")
	})
	a.kill()
	for to, from := range kept {
		copyFile(w.t, from, to)
	}
	a.link.lose(events.ReleaseSubject(""))
	a.start()
	return func() { a.link.lose("") }
}

// hanging is the example program, which does not answer a verb as long as there is a pipe into which nobody writes.
func hanging(verb string) func(*settings) {
	return func(s *settings) {
		script := filepath.Join(filepath.Dir(s.Root), "program.sh")
		s.Connectors = []build.Config{{Name: "program", Resources: []connector.Glob{"variable/*", "endpoint/*"},
			Exec: &exec.Config{Command: []string{script, s.Root}, Observes: true, Timeout: time.Hour}}}
		text, err := os.ReadFile("../../examples/exec-connector/one-file-each.sh")
		pipe := pipeOf(s)
		altered := strings.Replace(string(text), "\t\t"+verb+") ", "\t\t"+verb+") if [ -p '"+pipe+"' ]; then cat '"+pipe+"'; fi; ", 1)
		if err != nil || altered == string(text) {
			panic(fmt.Sprintf("the example program has no %s: %v", verb, err))
		}
		if err := os.WriteFile(script, []byte(altered), 0o700); err != nil {
			panic(err)
		}
	}
}

func pipeOf(s *settings) string { return filepath.Join(filepath.Dir(s.Root), "pipe") }

// hangs lets the agent's program not answer any more.
func (a *inst) hangs() (mended func()) {
	pipe := pipeOf(&a.settings)
	must(a.w.t, unix.Mkfifo(pipe, 0o600))
	mended = func() {
		if writer, err := os.OpenFile(pipe, os.O_RDWR, 0); err == nil { // who reads gets an end
			_ = os.Remove(pipe)
			_ = writer.Close()
		}
	}
	a.w.t.Cleanup(mended) // no program waits for longer than the test
	return mended
}
