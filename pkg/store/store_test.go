package store_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
	"github.com/lockstep-dev/lockstep/pkg/store"
	"github.com/lockstep-dev/lockstep/pkg/store/storetest"
)

var (
	identity = store.Identity{Ledger: foldtest.Ledger, Environment: "dev", Agent: "one"}
	now      = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

// advance folds releases into env and commits them in one transaction.
func advance(t testing.TB, s *store.Store, env *fold.Environment, releases ...foldtest.Release) {
	t.Helper()
	var steps []*fold.Step
	for _, r := range releases {
		step, err := env.Accept(r.Payload)
		must(t, err)
		steps = append(steps, step)
	}
	must(t, s.Update(func(tx *store.Tx) error {
		if _, err := tx.Advance(env, steps, store.Checkpoint{Observed: env.State.Digest(), ReadBack: true, At: now}); err != nil {
			return err
		}
		_, err := tx.Enqueue(events.Ack{Environment: "dev", Agent: "one", Word: events.WordApplied, First: steps[0].Release.Revision, Last: env.Revision})
		return err
	}))
}

func load(t testing.TB, s *store.Store) (env *fold.Environment) {
	t.Helper()
	must(t, s.View(func(tx *store.Tx) (err error) {
		env, err = tx.Environment()
		return err
	}))
	return env
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func same(t testing.TB, got, want *fold.Environment) {
	t.Helper()
	type view struct {
		Revision  uint64
		Chain     events.Digest
		Released  time.Time
		Trust     *events.Trust
		Digest    events.Digest
		Resources map[string]fold.Resource
		Accepted  map[events.Digest]fold.Accepted
	}
	of := func(e *fold.Environment) view {
		v := view{e.Revision, e.Chain, e.Released, e.Trust, e.State.Digest(), map[string]fold.Resource{}, e.Accepted}
		for key, r := range e.State.All() {
			v.Resources[key] = r
		}
		return v
	}
	if diff := cmp.Diff(of(want), of(got)); diff != "" {
		t.Fatalf("the store gives another fold (-want +got):\n%s", diff)
	}
}

func TestWhatAnyCommitsWroteIsThereAfterReopening(t *testing.T) {
	dir := t.TempDir()
	run := 0
	rapid.Check(t, func(r *rapid.T) {
		run++
		path := filepath.Join(dir, fmt.Sprint(run))
		s, err := store.Open(path, identity)
		must(t, err)
		p := newPublished(t)
		env := load(t, s)
		committed := 0
		for range rapid.IntRange(1, 8).Draw(r, "commits") {
			for range rapid.IntRange(1, 4).Draw(r, "releases") {
				p.publishAny(r)
			}
			advance(t, s, env, p.releases[committed:]...)
			committed = len(p.releases)
			if rapid.Bool().Draw(r, "reopen") {
				must(t, s.Close())
				s, err = store.Open(path, identity)
				must(t, err)
				same(t, load(t, s), p.Environment("dev"))
			}
		}
		must(t, s.Close())
		storetest.Check(t, path)
	})
}

// published is a publisher of one environment that remembers what it released.
type published struct {
	*foldtest.Publisher
	releases []foldtest.Release
	undoable []foldtest.Change // newest last
}

func newPublished(t testing.TB) *published {
	p := foldtest.New(t)
	return &published{Publisher: p, releases: p.Trust("dev")}
}

func (p *published) publishAny(r *rapid.T) {
	if n := len(p.undoable); n > 0 && rapid.IntRange(0, 2).Draw(r, "rollback") == 0 {
		p.releases = append(p.releases, p.Rollback(p.undoable[n-1])...)
		p.undoable = p.undoable[:n-1]
		return
	}
	keys := rapid.SampledFrom([]string{"variable/a", "variable/b", "document/c", "flag/d"})
	texts := rapid.SampledFrom([]string{"", "null", "1", `"<&>\u2028"`, `{"b":[1,{}],"a":"x"}`})
	var edits []foldtest.Edit
	for key, text := range rapid.MapOfN(keys, texts, 1, 4).Draw(r, "edits") {
		edits = append(edits, foldtest.Edit{Environment: "dev", Key: key, Value: value(text)})
	}
	change := p.Change(edits...)
	p.releases, p.undoable = append(p.releases, change.Releases...), append(p.undoable, change)
}

func value(text string) json.RawMessage {
	if text == "" {
		return nil
	}
	return json.RawMessage(text)
}

func TestAnUpdateThatFailsLeavesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s := storetest.Open(t, path, identity)
	env := load(t, s)
	step, err := env.Accept(foldtest.New(t).Trust("dev")[0].Payload)
	must(t, err)
	full := errors.New("no space left on device")
	err = s.Update(func(tx *store.Tx) error {
		_, err := tx.Advance(env, []*fold.Step{step}, store.Checkpoint{At: now})
		must(t, err)
		_, err = tx.Enqueue(events.Ack{First: 1, Last: 1})
		must(t, err)
		must(t, tx.SetIntent(&store.Intent{Revision: 1}))
		return full
	})
	if !errors.Is(err, full) {
		t.Fatalf("update: %v", err)
	}
	if got := load(t, s); got.Revision != 0 {
		t.Fatalf("the fold is at revision %d", got.Revision)
	}
	must(t, s.View(func(tx *store.Tx) error {
		intent, err := tx.Intent()
		must(t, err)
		acks, err := tx.Outbox()
		must(t, err)
		if intent != nil || len(acks) != 0 {
			t.Fatalf("left behind: intent %v, acks %v", intent, acks)
		}
		return nil
	}))
}

func TestAcksKeepTheirNumbersUntilTheyAreTaken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s, err := store.Open(path, identity)
	must(t, err)
	must(t, s.Update(func(tx *store.Tx) error {
		for i := range uint64(3) {
			a, err := tx.Enqueue(events.Ack{First: i + 1, Last: i + 1})
			must(t, err)
			if a.Number != i+1 {
				t.Errorf("ack number %d, want %d", a.Number, i+1)
			}
		}
		return tx.Taken(1, 3)
	}))
	must(t, s.Close())
	s = storetest.Open(t, path, identity)
	must(t, s.Update(func(tx *store.Tx) error {
		acks, err := tx.Outbox()
		must(t, err)
		if len(acks) != 1 || acks[0].Number != 2 {
			t.Errorf("outbox %v, want ack 2 alone", acks)
		}
		a, err := tx.Enqueue(events.Ack{First: 4, Last: 4})
		if a.Number != 4 {
			t.Errorf("the number after a restart is %d, want 4: numbers are never used again", a.Number)
		}
		return err
	}))
}

func TestWhatIsRecordedBesideTheFoldIsThereAfterReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	s, err := store.Open(path, identity)
	must(t, err)
	intent := &store.Intent{First: 2, Revision: 3, Keys: []string{"variable/a"}, Units: []byte(`[{"u":1}]`), At: now}
	hold := &store.Hold{Since: now, Until: now.Add(time.Hour), Reason: "audit"}
	failure := &store.Failure{Revision: 2, Last: 3, Word: events.WordFailed, Reason: events.ReasonFirstContact, Message: "m", Since: now}
	tip := &store.Tip{Counter: 7, Tip: events.LedgerTip{Number: 9, Hash: events.Sum(nil)}, At: now}
	seal := &store.Seal{Size: 9, Root: events.Sum(nil), Note: "a note\n", Agent: "U", At: now}
	trust := &events.Trust{Version: 2, Ledger: foldtest.Ledger, Publishers: []string{"U"}, Approvals: "names"}
	must(t, s.Update(func(tx *store.Tx) error {
		return errors.Join(tx.SetIntent(intent), tx.SetHold(hold), tx.SetFailure(failure), tx.SetTip(tip), tx.SetSeal(seal), tx.SetNewestTrust(trust))
	}))
	must(t, s.Close())
	s = storetest.Open(t, path, identity)
	must(t, s.Update(func(tx *store.Tx) error {
		gotIntent, err1 := tx.Intent()
		gotHold, err2 := tx.Hold()
		gotFailure, err3 := tx.Failure()
		gotTip, err4 := tx.Tip()
		gotTrust, err5 := tx.NewestTrust()
		gotSeal, err6 := tx.Seal()
		must(t, errors.Join(err1, err2, err3, err4, err5, err6))
		got, want := []any{gotIntent, gotHold, gotFailure, gotTip, gotTrust, gotSeal}, []any{intent, hold, failure, tip, trust, seal}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		return errors.Join(tx.SetIntent(nil), tx.SetHold(nil), tx.SetFailure(nil))
	}))
	must(t, s.View(func(tx *store.Tx) error {
		i, _ := tx.Intent()
		h, _ := tx.Hold()
		f, err := tx.Failure()
		if i != nil || h != nil || f != nil {
			t.Errorf("not cleared: %v %v %v", i, h, f)
		}
		return err
	}))
}

func TestAnotherAgentsStoreIsRefused(t *testing.T) {
	for name, other := range map[string]store.Identity{
		"agent":       {Ledger: identity.Ledger, Environment: "dev", Agent: "two"},
		"environment": {Ledger: identity.Ledger, Environment: "prod", Agent: "one"},
		"ledger":      {Ledger: "other", Environment: "dev", Agent: "one"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store")
			s, err := store.Open(path, identity)
			must(t, err)
			must(t, s.Close())
			_, err = store.Open(path, other)
			refused(t, err, store.ErrForeign, "state directory of its own")
			s, err = store.OpenReadOnly(path)
			must(t, err)
			if s.Identity() != identity {
				t.Errorf("identity %v", s.Identity())
			}
			must(t, s.Close())
		})
	}
}

func TestAStoreInUseIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	storetest.Open(t, path, identity)
	_, err := store.OpenReadOnly(path)
	refused(t, err, store.ErrLocked, "agent status")
	_, err = store.Open(path, identity)
	refused(t, err, store.ErrLocked, "agent status")
}

func TestAStoreThatIsNotThereIsNotMadeByLooking(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	if _, err := store.OpenReadOnly(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// TestAFileOfAnOlderProgramOpens: it does not know when its revision was released, and learns that with the next one.
func TestAFileOfAnOlderProgramOpens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	p := foldtest.New(t)
	env := fold.New(foldtest.Ledger, "dev")
	s, err := store.Open(path, identity)
	must(t, err)
	advance(t, s, env, p.Trust("dev")...)
	must(t, s.Close())
	edit(t, path, "meta", "released", nil)

	s, err = store.Open(path, identity)
	must(t, err)
	env = load(t, s)
	if !env.Released.IsZero() || env.Revision != 1 {
		t.Errorf("revision %d was released %s", env.Revision, env.Released)
	}
	advance(t, s, env, p.Change(foldtest.Set("dev", "variable/x", "1")).Releases...)
	if got := load(t, s).Released; got.IsZero() || !got.Equal(env.Released) {
		t.Errorf("revision 2 was released %s, want %s", got, env.Released)
	}
	must(t, s.Close())
}

func TestANewerSchemaIsRefused(t *testing.T) {
	path := filled(t)
	edit(t, path, "meta", "schema", []byte("3"))
	_, err := store.Open(path, identity)
	refused(t, err, store.ErrNewer, "use the newer program")
}

func TestAnOlderSchemaIsRefused(t *testing.T) {
	path := filled(t)
	edit(t, path, "meta", "schema", []byte("1"))
	_, err := store.Open(path, identity)
	refused(t, err, store.ErrCorrupt, "move the file away")
}

func TestADamagedStoreIsRefusedAndSaysHowToRecover(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, path string){
		"no store": func(t *testing.T, path string) { must(t, os.WriteFile(path, []byte(strings.Repeat("x", 5000)), 0o600)) },
		"emptied":  func(t *testing.T, path string) { must(t, os.Truncate(path, 0)) },
		"nothing in it": func(t *testing.T, path string) {
			must(t, os.Remove(path))
			db, err := bbolt.Open(path, 0o600, nil)
			must(t, err)
			must(t, db.Close())
		},
		"cut in the meta": func(t *testing.T, path string) { must(t, os.Truncate(path, 4096)) },
		"cut at the end":  func(t *testing.T, path string) { must(t, os.Truncate(path, 3*4096)) },
		"another bbolt file": func(t *testing.T, path string) {
			must(t, os.Remove(path))
			edit(t, path, "other", "k", []byte("v"))
		},
		"a value changed":     func(t *testing.T, path string) { edit(t, path, "resources", "variable/a", []byte(`0000{"value":2}`)) },
		"a record removed":    func(t *testing.T, path string) { edit(t, path, "resources", "variable/a", nil) },
		"trust removed":       func(t *testing.T, path string) { edit(t, path, "meta", "trust", nil) },
		"history begins late": func(t *testing.T, path string) { edit(t, path, "history", "\x00\x00\x00\x00\x00\x00\x00\x01", nil) },
		"history removed":     func(t *testing.T, path string) { edit(t, path, "history", "\x00\x00\x00\x00\x00\x00\x00\x02", nil) },
		"pages of noise": func(t *testing.T, path string) {
			b, err := os.ReadFile(path)
			must(t, err)
			for i := 2 * 4096; i < len(b); i++ {
				b[i] = byte(i * 31)
			}
			must(t, os.WriteFile(path, b, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filled(t)
			damage(t, path)
			for _, open := range []func() (*store.Store, error){
				func() (*store.Store, error) { return store.OpenReadOnly(path) },
				func() (*store.Store, error) { return store.Open(path, identity) },
			} {
				s, err := open()
				if err == nil {
					err = s.View(func(tx *store.Tx) error {
						_, err := tx.Environment()
						return err
					})
					must(t, s.Close())
				}
				refused(t, err, store.ErrCorrupt, "move the file away")
			}
		})
	}
}

// A flipped bit anywhere is noticed or changes nothing. Where it hits the newest of bbolt's two meta pages the commit before that
// one comes back, whole, as from an old disk image.
func TestAFlippedBitNeverGivesAnotherFold(t *testing.T) {
	path := filled(t)
	whole, err := os.ReadFile(path)
	must(t, err)
	s, err := store.Open(path, identity)
	must(t, err)
	want := load(t, s)
	must(t, s.Close())
	refusals := 0
	for at := 0; at < len(whole); at += 41 {
		damaged := append([]byte(nil), whole...)
		damaged[at] ^= 1 << (at % 8)
		must(t, os.WriteFile(path, damaged, 0o600))
		s, err := store.OpenReadOnly(path)
		var got *fold.Environment
		if err == nil {
			err = s.View(func(tx *store.Tx) (err error) {
				got, err = tx.Environment()
				return err
			})
			must(t, s.Close())
		}
		switch {
		case errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrNewer):
			refusals++
		case err != nil:
			t.Fatalf("bit at %d: %v", at, err)
		case at < 2*4096 && got.Revision == 0:
			same(t, got, fold.New(foldtest.Ledger, "dev"))
		default:
			same(t, got, want)
		}
	}
	if refusals == 0 {
		t.Error("no flipped bit was noticed")
	}
	must(t, os.WriteFile(path, whole, 0o600))
}

// filled is a closed store at revision 2.
func filled(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store")
	s, err := store.Open(path, identity)
	must(t, err)
	p := foldtest.New(t)
	releases := p.Trust("dev")
	releases = append(releases, p.Change(foldtest.Set("dev", "variable/a", "1"), foldtest.Set("dev", "document/b", `{"x":[1,2,3]}`)).Releases...)
	advance(t, s, load(t, s), releases...)
	must(t, s.Close())
	return path
}

// edit changes one record behind the store's back; nil removes it.
func edit(t *testing.T, path, bucket, key string, value []byte) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	must(t, err)
	must(t, db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte(bucket))
		must(t, err)
		if value == nil {
			return b.Delete([]byte(key))
		}
		return b.Put([]byte(key), value)
	}))
	must(t, db.Close())
}

func refused(t *testing.T, err, want error, advice string) {
	t.Helper()
	if !errors.Is(err, want) || !strings.Contains(err.Error(), advice) {
		t.Errorf("got %v, want %v with the advice %q", err, want, advice)
	}
}
