package publisher_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	realagent "github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/connector/file"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
	"github.com/lockstep-dev/lockstep/pkg/store"
)

func TestABitFlippedInTheReleaseStreamIsMadeGood(t *testing.T) {
	t.Parallel()
	for name, revision := range map[string]int{"at the start": 1, "in the middle": 3, "at the end": 5} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			process := bustest.StartProcess(t)
			p := start(t, t.TempDir(), on(process))
			addEnvironments(t, p, "dev", "prod")
			one := enrol(t, p, "dev", "one")
			for i := range 4 {
				release(t, p, "variable/x", i, "*")
			}
			one.reaches(5)
			conn := bustest.Connect(t, process.URL())
			before := eventuallySent(t, p, conn)
			text := fmt.Sprintf(`"revision":%d,`, revision)
			bustest.Eventually(t, "the release is on disk, which is not waited for", func() bool {
				return process.Holds(events.StreamReleases, text)
			})

			process.Kill()
			process.FlipBit(events.StreamReleases, text)
			process.Restart()
			if diff := cmp.Diff(before, eventuallySent(t, p, conn)); diff != "" {
				t.Error(diff)
			}
			release(t, p, "variable/x", "later", "*")
			one.reaches(6)
			eventuallySent(t, p, conn)
			verify(t, p)
		})
	}
}

func TestABusWithoutRoomRefusesAndReleasesNothing(t *testing.T) {
	t.Parallel()
	process := bustest.StartProcess(t)
	p := start(t, t.TempDir(), on(process))
	addEnvironments(t, p, "dev", "prod")
	one := enrol(t, p, "dev", "one")
	a := propose(t, p, "variable/x", "released when there is room", "*")
	one.reaches(1)
	conn := bustest.Connect(t, process.URL())
	before := eventuallySent(t, p, conn)
	bustest.Eventually(t, "the releases are on disk, which is not waited for", func() bool {
		return process.Holds(events.StreamReleases, before["dev"][0].Payload) && process.Holds(events.StreamReleases, before["prod"][0].Payload)
	})

	process.Kill()
	process.Limit(1 << 10) // less than the ledger has taken
	process.Restart()
	approve, refusals := command("ben", a), 0
	bustest.Eventually(t, "refused for want of room, again and again", func() bool {
		out, err := p.Do(bustest.Context(t), approve, false)
		if api.KindOf(err) != api.KindUnavailable || out.Entry != 0 || len(out.Released) > 0 {
			t.Fatalf("approved without room: %+v (%v)", out, err)
		}
		if h := heads(p); h["dev"] != 1 || h["prod"] != 1 {
			t.Fatalf("called released: %v", h)
		}
		if strings.Contains(err.Error(), "insufficient resources") { // not only for the bus that is just back
			refusals++
		}
		return refusals == 3
	})
	if diff := cmp.Diff(before, eventuallyRead(t, conn)); diff != "" {
		t.Errorf("something was sent: %s", diff)
	}

	process.Kill()
	process.Limit(0)
	process.Restart()
	out := again(t, p, approve)
	if out.Again || len(out.Released) != 2 {
		t.Errorf("the command that was refused: %+v", out)
	}
	release(t, p, "variable/y", "later", "*")
	eventuallySent(t, p, conn)
	one.reaches(3)
	verify(t, p)
}

// An instance is a real agent and the directory of files that it keeps.
type instance struct {
	*realagent.Agent
	root string
}

// startInstance enrols an agent with a publisher in a process of its own, and starts it here.
func startInstance(t *testing.T, c *child, busURL, environment string) *instance {
	t.Helper()
	dir, err := os.MkdirTemp("", "lockstep") // its path has to fit a socket
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	i := &instance{root: filepath.Join(dir, "app")}
	must(t, os.Mkdir(i.root, 0o755))

	do(t, c, "op", ledger.EnrolAgent{Environment: environment, Agent: "one", Key: foldtest.Signer(t, "one").Public()})
	pins, err := c.Pins(bustest.Context(t), environment)
	must(t, err)
	config := file.Config{Root: i.root, Files: []file.File{{Path: "variables.json", Resources: []connector.Glob{"variable/*"}, Own: "file"}}}
	files, err := file.Open("files", config, dir, "test")
	must(t, err)
	t.Cleanup(func() { must(t, files.Close()) })
	router, err := connector.NewRouter([]connector.Route{{Resources: config.Resources(), Connector: files}})
	must(t, err)
	i.Agent, err = realagent.New(realagent.Options{
		Enrolment: &keys.Enrolment{Environment: environment, Agent: "one", Seed: string(foldtest.Seed(t, "one")), Ledger: pins.Ledger,
			Publishers: pins.Document.Publishers, Trust: pins.Digest, Head: keys.Head{Revision: pins.Head.Revision, Chain: pins.Head.Chain},
			Bus: keys.Bus{URL: busURL}},
		State: filepath.Join(dir, "state"), Router: router,
		Intervals: realagent.Intervals{Beat: 300 * time.Millisecond, Pulse: childPulse, Check: 300 * time.Millisecond, Reconnect: 100 * time.Millisecond},
	})
	must(t, err)
	must(t, i.Start(context.WithoutCancel(t.Context())))
	t.Cleanup(func() { must(t, i.Stop(context.WithoutCancel(t.Context()))) })
	return i
}

// eventuallyInStep waits until the agent is in step at a revision.
func (i *instance) eventuallyInStep(t *testing.T, revision uint64) {
	t.Helper()
	bustest.Eventually(t, fmt.Sprintf("the agent is in step at revision %d", revision), func() bool {
		s := i.Status()
		return s.Condition.Word == realagent.InStep && s.Checkpoint.Revision == revision
	})
}

// kept is what must not change while nobody releases anything.
func (i *instance) kept(t *testing.T) (checkpoint store.Checkpoint, content []byte, written time.Time) {
	t.Helper()
	path := filepath.Join(i.root, "variables.json")
	info, err := os.Stat(path)
	must(t, err)
	content, err = os.ReadFile(path)
	must(t, err)
	return i.Status().Checkpoint, content, info.ModTime()
}

func TestAnAgentWhosePublisherIsDeadGoesStaleAndKeepsWhatItHas(t *testing.T) {
	t.Parallel()
	process := bustest.StartProcess(t)
	settings := childSettings{Data: t.TempDir(), NATS: process.URL(), MonitorURL: process.MonitorURL()}
	c := startChild(t, settings)
	addEnvironments(t, c, "dev")
	i := startInstance(t, c, process.URL(), "dev")
	out := do(t, c, "anna", set("variable/x", "kept", "dev"))
	do(t, c, "ben", approvalOf(t, c, out.Change))
	i.eventuallyInStep(t, 2)
	checkpoint, content, written := i.kept(t)
	if !bytes.Contains(content, []byte("kept")) {
		t.Fatalf("%s", content)
	}

	c.kill()
	bustest.Eventually(t, "the agent is stale", func() bool {
		now := time.Now()
		s := i.Status()
		stale := s.Condition.Word == realagent.Stale
		if !stale && now.Sub(s.LastPulse) > 3*childPulse {
			t.Fatalf("%s after the last pulse it is %+v", now.Sub(s.LastPulse), s.Condition)
		}
		return stale && s.Condition.Reason == events.ReasonNoPulse
	})
	still, same, then := i.kept(t)
	if diff := cmp.Diff(checkpoint, still); diff != "" || !bytes.Equal(content, same) || !written.Equal(then) {
		t.Errorf("it changed without a publisher: %s%s", same, diff)
	}

	c = startChild(t, settings)
	i.eventuallyInStep(t, 2)
	out = do(t, c, "anna", set("variable/x", "later", "dev"))
	do(t, c, "ben", approvalOf(t, c, out.Change))
	i.eventuallyInStep(t, 3)
	if _, content, _ := i.kept(t); !bytes.Contains(content, []byte("later")) {
		t.Errorf("in step with %s", content)
	}
}
