package publisher_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/publisher"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A scene is a bus with some history, and the directory of the publisher that made it, which is stopped.
type scene struct {
	process *bustest.Process
	data    string
	conn    *bus.Conn
	id      string
	entries [][]byte
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{process: bustest.StartProcess(t), data: t.TempDir()}
	p := start(t, s.data, on(s.process))
	addEnvironments(t, p, "dev", "prod")
	one := enrol(t, p, "dev", "one")
	for i := range 3 {
		release(t, p, "variable/x", i, "*")
	}
	one.reaches(4)
	one.stop()
	s.conn = bustest.Connect(t, s.process.URL())
	eventuallySent(t, p, s.conn)
	stop(t, p)
	p.Read(func(state *ledger.State, _ fleet.Reports, _ time.Time) { s.id = state.ID })
	must(t, s.conn.ReadLedger(bustest.Context(t), 1, func(e bus.Stored) error {
		s.entries = append(s.entries, e.Payload)
		return nil
	}))
	return s
}

// rewrite replaces the bus's ledger by other entries under the same id.
func (s *scene) rewrite(t *testing.T, entries ...[]byte) {
	t.Helper()
	bustest.NewWire(t, s.process.URL()).DropStream(events.StreamLedger)
	must(t, s.conn.RestoreLedger(bustest.Context(t), bus.StreamOptions{LedgerID: s.id}, nil))
	for i, e := range entries {
		_, err := s.conn.Append(bustest.Context(t), e, uint64(i))
		must(t, err)
	}
}

// loseCopy lets the publisher forget the ledger, and keep its key.
func (s *scene) loseCopy(t *testing.T) {
	must(t, os.Remove(filepath.Join(s.data, "ledger.copy")))
}

// refuses waits until a publisher is read-only for a reason, everywhere that says so, and sees that it appends and purges nothing.
func refuses(t *testing.T, p *publisher.Publisher, conn *bus.Conn, reason events.Reason, text string) {
	t.Helper()
	var view fleet.LedgerView
	before := eventuallyRead(t, conn)
	bustest.Eventually(t, "the ledger is read-only: "+string(reason), func() bool {
		view = p.Fleet().Ledger
		if view.Writable {
			t.Fatal("the ledger is writable")
		}
		return view.Reason == reason
	})
	if !strings.Contains(view.Message, text) || strings.HasPrefix(view.Message, string(reason)) || view.Since.IsZero() {
		t.Errorf("%+v, want %q in the message", view, text)
	}
	for _, dry := range []bool{false, true} {
		_, err := p.Do(bustest.Context(t), command("op", ledger.AddEnvironment{Name: "new", Approvals: 1}), dry)
		if unavailable, ok := err.(*api.UnavailableError); !ok || unavailable.Reason != reason {
			t.Errorf("command: %v", err)
		}
	}
	response, err := http.Get(p.URL() + "/readyz")
	must(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(t, err)
	if response.StatusCode != http.StatusServiceUnavailable || !bytes.Contains(body, []byte(reason)) {
		t.Errorf("readyz: %s %s", response.Status, body)
	}
	var ready fleet.LedgerView
	must(t, json.Unmarshal(body, &ready))
	if known := p.Fleet().Ledger; ready.ID != known.ID || ready.Tip != known.Tip {
		t.Errorf("readyz says %+v, and the fleet %+v", ready, known)
	}
	found := false
	for _, c := range p.Doctor(bustest.Context(t)) {
		found = found || (c.Name == "ledger" && !c.OK && strings.Contains(c.Message, string(reason)))
	}
	if !found {
		t.Errorf("doctor: %+v", p.Doctor(bustest.Context(t)))
	}
	if diff := cmp.Diff(before, eventuallyRead(t, conn), cmpopts.EquateEmpty()); diff != "" { // a stream that was lost is made anew, and empty
		t.Errorf("the release stream was touched: %s", diff)
	}
}

func TestALedgerThatIsNotWhatItWasIsReadOnly(t *testing.T) {
	t.Parallel()
	altered := func(e []byte) []byte { return bytes.Replace(e, []byte(`"why"`), []byte(`"wry"`), 1) }
	entryWith := func(s *scene, text string) int {
		for i, e := range s.entries {
			if bytes.Contains(e, []byte(text)) {
				return i
			}
		}
		panic(text)
	}
	for name, c := range map[string]struct {
		damage func(t *testing.T, s *scene)
		reason events.Reason
		text   string
	}{
		"emptied": {func(t *testing.T, s *scene) { s.rewrite(t) }, events.ReasonLedgerTruncated, "ends at entry 0"},
		"deleted": {func(t *testing.T, s *scene) {
			bustest.NewWire(t, s.process.URL()).DropStream(events.StreamLedger)
		}, events.ReasonLedgerTruncated, "there is no stream LEDGER"},
		"older backup": {func(t *testing.T, s *scene) { s.rewrite(t, s.entries[:len(s.entries)-1]...) }, events.ReasonLedgerTruncated, "entries are known here"},
		"shrunk": {func(t *testing.T, s *scene) { bustest.NewWire(t, s.process.URL()).Shrink(events.StreamLedger) },
			events.ReasonLedgerTruncated, "some are missing"},
		"store replaced by an empty one": {func(t *testing.T, s *scene) {
			s.process.Kill()
			must(t, os.RemoveAll(s.process.StoreDir()))
			s.process.Restart()
		}, events.ReasonLedgerTruncated, "there is no stream LEDGER"},
		"altered in the middle": {func(t *testing.T, s *scene) {
			i := entryWith(s, `"why"`)
			s.entries[i] = altered(s.entries[i])
			s.rewrite(t, s.entries...)
		}, events.ReasonLedgerForked, "is another one on the bus"},
		"altered in the middle, copy lost": {func(t *testing.T, s *scene) {
			i := entryWith(s, `"why"`)
			s.entries[i] = altered(s.entries[i])
			s.rewrite(t, s.entries...)
			s.loseCopy(t)
		}, events.ReasonLedgerForked, "chain is broken"},
		"an entry that is none, copy lost": {func(t *testing.T, s *scene) {
			s.rewrite(t, append(s.entries, []byte("{}"))...)
			s.loseCopy(t)
		}, events.ReasonLedgerForked, ""},
		"older backup, copy lost, releases there": {func(t *testing.T, s *scene) {
			s.rewrite(t, s.entries[:entryWith(s, "wave-released")]...)
			s.loseCopy(t)
		}, events.ReasonLedgerTruncated, "the release stream holds revision 2"},
		"emptied, copy lost, releases there": {func(t *testing.T, s *scene) {
			s.rewrite(t)
			s.loseCopy(t)
		}, events.ReasonLedgerTruncated, "holds releases of"},
		"deleted, copy lost, releases gone, beats there": {func(t *testing.T, s *scene) {
			wire := bustest.NewWire(t, s.process.URL())
			wire.DropStream(events.StreamLedger)
			wire.DropStream(events.StreamReleases)
			must(t, s.conn.PublishBeat("dev", "one", []byte("{}"), ""))
			bustest.Eventually(t, "the bus has the beat", func() (has bool) {
				err := s.conn.ReadBeats(bustest.Context(t), func(bus.Report) error { has = true; return nil })
				return err == nil && has
			})
			s.loseCopy(t)
		}, events.ReasonLedgerTruncated, "has beaten"},
		"another ledger": {func(t *testing.T, s *scene) {
			bustest.NewWire(t, s.process.URL()).DropStream(events.StreamLedger)
			_, err := s.conn.EnsureStreams(bustest.Context(t), bus.StreamOptions{LeaseTTL: bustest.LeaseTTL})
			must(t, err)
		}, events.ReasonLedgerForked, "this data directory is of ledger"},
		"another key": {func(t *testing.T, s *scene) {
			must(t, os.Remove(filepath.Join(s.data, "publisher.key")))
		}, events.ReasonTrust, "put the key there that the document names"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			c.damage(t, s)
			p := start(t, s.data, on(s.process))
			refuses(t, p, s.conn, c.reason, c.text)
			if number := p.Fleet().Ledger.Tip.Number; number > uint64(len(s.entries)) {
				t.Errorf("entry %d was appended", number)
			}
		})
	}
}

func TestAnAgentThatKnowsMoreThanTheLedgerStopsIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		claim  func(*events.Beat)
		reason events.Reason
	}{
		"a newer entry":    {func(b *events.Beat) { b.Seen = events.LedgerTip{Number: 1000, Hash: events.Sum([]byte("x"))} }, events.ReasonLedgerTruncated},
		"another entry":    {func(b *events.Beat) { b.Seen = events.LedgerTip{Number: 2, Hash: events.Sum([]byte("x"))} }, events.ReasonLedgerForked},
		"a newer revision": {func(b *events.Beat) { b.Revision = 1000 }, events.ReasonLedgerTruncated},
		"another revision": {func(b *events.Beat) { b.Chain = events.Sum([]byte("x")) }, events.ReasonLedgerForked},
	} {
		for _, lost := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				process := bustest.StartProcess(t)
				data := t.TempDir()
				p := start(t, data, on(process))
				addEnvironments(t, p, "dev")
				one := enrol(t, p, "dev", "one")
				one.reaches(1)
				conn := bustest.Connect(t, process.URL())
				if !lost { // while it runs
					one.beat(c.claim)
					bustest.Eventually(t, "read-only", func() bool { return !p.Fleet().Ledger.Writable && p.Fleet().Ledger.Reason == c.reason })
					one.beat()
					eventuallyWritable(t, p)
					return
				}
				stop(t, p)
				must(t, os.Remove(filepath.Join(data, "ledger.copy")))
				one.beatsOn(conn, c.claim)
				p = start(t, data, on(process))
				refuses(t, p, conn, c.reason, "agent one of dev")
			})
		}
	}
}

func TestALedgerEmptiedWhileRunningIsNoticed(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, url string){
		"shrunk":  func(t *testing.T, url string) { bustest.NewWire(t, url).Shrink(events.StreamLedger) },
		"deleted": func(t *testing.T, url string) { bustest.NewWire(t, url).DropStream(events.StreamLedger) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, t.TempDir())
			addEnvironments(t, p, "dev", "prod")
			conn := bustest.Connect(t, p.BusURL())
			eventuallySent(t, p, conn)
			damage(t, p.BusURL())
			bustest.Eventually(t, "read-only", func() bool { return !p.Fleet().Ledger.Writable })
			_, err := p.Do(bustest.Context(t), command("op", ledger.AddEnvironment{Name: "new", Approvals: 1}), false)
			if api.KindOf(err) != api.KindUnavailable {
				t.Errorf("command: %v", err)
			}
			refuses(t, p, conn, events.ReasonLedgerTruncated, "")
			if _, err := conn.LedgerEnd(bustest.Context(t)); name == "deleted" && !errors.Is(err, bus.ErrLedgerChanged) {
				t.Errorf("a ledger that was deleted is made anew, perhaps over files that the server still deletes: %v", err)
			}
		})
	}
}

func TestTheOwnCopyIsMendedOrMadeAnew(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, path string){
		"torn last line": func(t *testing.T, path string) {
			b, err := os.ReadFile(path)
			must(t, err)
			must(t, os.WriteFile(path, b[:len(b)-7], 0o600))
		},
		"a line that was begun": func(t *testing.T, path string) {
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			must(t, err)
			_, err = f.WriteString(strings.Repeat("7", 5000))
			must(t, err)
			must(t, f.Close())
		},
		"missing": func(t *testing.T, path string) { must(t, os.Remove(path)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := t.TempDir()
			p := start(t, data)
			addEnvironments(t, p, "dev")
			release(t, p, "variable/x", 1, "dev")
			path := filepath.Join(data, "ledger.copy")
			bustest.Eventually(t, "all is copied", func() bool {
				b, err := os.ReadFile(path)
				return err == nil && uint64(bytes.Count(b, []byte("\n"))) == p.Fleet().Ledger.Tip.Number
			})
			stop(t, p)
			before, err := os.ReadFile(path)
			must(t, err)
			damage(t, path)
			for range 2 {
				p = start(t, data)
				eventuallyWritable(t, p)
				verify(t, p)
				stop(t, p)
			}
			after, err := os.ReadFile(path)
			must(t, err)
			if !bytes.HasPrefix(after, before) {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
		})
	}
	t.Run("damaged in the middle", func(t *testing.T) {
		t.Parallel()
		s := newScene(t)
		path := filepath.Join(s.data, "ledger.copy")
		b, err := os.ReadFile(path)
		must(t, err)
		must(t, os.WriteFile(path, bytes.Replace(b, []byte(`"why"`), []byte(`"wry"`), 1), 0o600))
		_, err = publisher.New(t.Context(), options(s.data, on(s.process)))
		if err == nil || !strings.Contains(err.Error(), "publisher ledger repair") {
			t.Error(err)
		}
	})
}

func TestACommandIsDoneOnce(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	p := start(t, data)
	addEnvironments(t, p, "dev")
	c := command("anna", set("variable/x", 1, "dev"))
	first, err := p.Do(t.Context(), c, false)
	must(t, err)
	if first.Again || first.Entry == 0 {
		t.Errorf("%+v", first)
	}
	for range 2 {
		second, err := p.Do(t.Context(), c, false)
		must(t, err)
		if !second.Again || second.Entry != first.Entry || second.Change != first.Change {
			t.Errorf("%+v, then %+v", first, second)
		}
		stop(t, p)
		p = start(t, data)
	}
	other := command("anna", set("variable/x", 2, "dev"))
	other.ID = c.ID
	if _, err := p.Do(t.Context(), other, false); ledger.KindOf(err) != ledger.KindConflict {
		t.Errorf("the same id for another command: %v", err)
	}

	before := p.Fleet().Ledger.Tip
	dry, err := p.Do(t.Context(), command("ben", approval(p, first.Change)), true)
	must(t, err)
	if !dry.DryRun || dry.Entry != 0 || len(dry.Released) != 1 || p.Fleet().Ledger.Tip != before {
		t.Errorf("dry run: %+v, tip %v, then %v", dry, before, p.Fleet().Ledger.Tip)
	}
	if v := verify(t, p); v.Tip != before {
		t.Errorf("a dry run wrote: %+v", v)
	}
}

func TestAnAppendWhoseAnswerIsLostIsDoneOnce(t *testing.T) {
	t.Parallel()
	process := bustest.StartProcess(t)
	p := start(t, t.TempDir(), on(process))
	addEnvironments(t, p, "dev")
	conn := bustest.Connect(t, process.URL())
	for i := range 5 {
		c := command("anna", set("variable/x", i, "dev"))
		process.Pause() // the append is under way and not answered
		answered := make(chan error, 1)
		go func() {
			_, err := p.Do(context.WithoutCancel(t.Context()), c, false)
			answered <- err
		}()
		process.Kill()
		process.Restart()
		if err := <-answered; err != nil && api.KindOf(err) != api.KindUnavailable {
			t.Error(err)
		}
		out := again(t, p, c)
		do(t, p, "ben", approval(p, out.Change))
	}
	eventuallySent(t, p, conn)
	if head := heads(p)["dev"]; head != 6 {
		t.Errorf("head %d", head)
	}
	proposed := 0
	must(t, conn.ReadLedger(bustest.Context(t), 1, func(s bus.Stored) error {
		var e events.Entry
		must(t, json.Unmarshal(s.Payload, &e))
		for _, event := range e.Events {
			if event.Type == events.TypeChangeProposed {
				proposed++
			}
		}
		return nil
	}))
	if proposed != 5 {
		t.Errorf("%d proposals for 5 commands", proposed)
	}
	verify(t, p)
}
