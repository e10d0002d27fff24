package foldtest_test

import (
	"bytes"
	"testing"

	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
)

func story(t *testing.T) []foldtest.Release {
	p := foldtest.New(t)
	all := p.Trust("dev", "prod")
	level := p.Change(foldtest.Set("dev", "variable/log-level", `"debug"`), foldtest.Set("prod", "variable/log-level", `"info"`))
	all = append(all, level.Releases...)
	all = append(all, p.Change(foldtest.Delete("dev", "variable/log-level")).Releases...)
	return append(all, p.Rollback(level, "prod")...)
}

func TestWhatIsPublishedIsSignedAndAccepted(t *testing.T) {
	environments := map[string]*fold.Environment{}
	publisher := foldtest.Signer(t, "publisher").Public()
	for _, r := range story(t) {
		e := environments[r.Environment]
		if e == nil {
			e = fold.New(foldtest.Ledger, r.Environment)
			environments[r.Environment] = e
		}
		if _, err := e.Accept(r.Payload); err != nil {
			t.Fatal(err)
		}
		if e.Chain != r.Chain || e.Revision != r.Revision {
			t.Errorf("%s: at %d %s, published %d %s", r.Environment, e.Revision, e.Chain.Short(), r.Revision, r.Chain.Short())
		}
		if err := events.VerifyWave(foldtest.Ledger, r.Chain, r.Header, func(key string) bool { return key == publisher }); err != nil {
			t.Error(err)
		}
	}
	if got := environments["dev"].Revision; got != 3 {
		t.Errorf("dev is at %d", got)
	}
}

func TestTheSameCallsGiveTheSameBytes(t *testing.T) {
	first, second := story(t), story(t)
	for i := range first {
		if !bytes.Equal(first[i].Payload, second[i].Payload) || first[i].Header != second[i].Header {
			t.Errorf("release %d differs", i)
		}
	}
}
