package connector_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/connector/connectortest"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func TestKeyGoesToTheFirstRouteThatNamesIt(t *testing.T) {
	a, b := connectortest.NewFake("a"), connectortest.NewFake("b")
	r, err := connector.NewRouter([]connector.Route{
		{Resources: []connector.Glob{"variable/db-*", "flag/one"}, Connector: a, Step: true},
		{Resources: []connector.Glob{"variable/*"}, Connector: b},
		{Resources: []connector.Glob{"flag/*"}, Connector: a},
	})
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"variable/db-host": "a true", "variable/log-level": "b false", "flag/one": "a true", "flag/two": "a false",
	} {
		route, err := r.Route(key)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(route.Connector.Name(), " ", route.Step); got != want {
			t.Errorf("%s goes to %s, want %s", key, got, want)
		}
	}
	shares, err := r.Split(connector.Values{"flag/two": nil, "variable/x": []byte("1"), "variable/db-x": []byte("2")})
	if err != nil {
		t.Fatal(err)
	}
	if len(shares) != 2 || !slices.Equal(shares[0].Values.Keys(), []string{"flag/two", "variable/db-x"}) || shares[1].Connector != connector.Connector(b) {
		t.Errorf("shares %v", shares)
	}
}

func TestKeyThatNobodyTakesIsAPermanentErrorThatNamesIt(t *testing.T) {
	r, err := connector.NewRouter([]connector.Route{{Resources: []connector.Glob{"flag/*"}, Connector: connectortest.NewFake("a")}})
	if err != nil {
		t.Fatal(err)
	}
	_, splitErr := r.Split(connector.Values{"variable/x": []byte("1")})
	_, normalErr := r.Normal("variable/x", []byte("1"))
	for _, err := range []error{splitErr, normalErr} {
		e := connector.AsError(err)
		if e == nil || e.Reason != connector.ReasonNoRoute || !e.Permanent || !strings.Contains(err.Error(), "variable/x") {
			t.Errorf("got %v", err)
		}
	}
}

func TestWhatNobodyTakesIsAbsentAlready(t *testing.T) {
	r, err := connector.NewRouter([]connector.Route{{Resources: []connector.Glob{"flag/*"}, Connector: connectortest.NewFake("a")}})
	if err != nil {
		t.Fatal(err)
	}
	shares, err := r.Split(connector.Values{"variable/x": nil, "flag/y": []byte("true")})
	if err != nil || len(shares) != 1 || !slices.Equal(shares[0].Values.Keys(), []string{"flag/y"}) {
		t.Errorf("a deletion that nobody takes must not stop the others: %v, %v", shares, err)
	}
	held, err := r.Observe(context.Background(), connector.Values{"variable/x": nil})
	if err != nil || len(held) != 0 {
		t.Errorf("observed %v, %v", held, err)
	}
}

func TestRouterRefusesBadGlobsAndSharedNames(t *testing.T) {
	for _, g := range []connector.Glob{"*", "*/x", "flags/x", "flag/", "flag", "flag/a b"} {
		if _, err := connector.NewRouter([]connector.Route{{Resources: []connector.Glob{g}, Connector: connectortest.NewFake("a")}}); err == nil {
			t.Errorf("%q is accepted", g)
		}
	}
	_, err := connector.NewRouter([]connector.Route{{Connector: connectortest.NewFake("a")}, {Connector: connectortest.NewFake("a")}})
	if err == nil {
		t.Error("two connectors share a name")
	}
}

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		glob, key string
		want      bool
	}{
		{"flag/*", "flag/x", true}, {"flag/*", "flags/x", false}, {"flag/x", "flag/x", true}, {"flag/x", "flag/xy", false},
		{"flag/a*b", "flag/ab", true}, {"flag/a*b", "flag/a", false}, {"flag/a*b*c", "flag/a-b-b-c", true}, {"flag/a*b*c", "flag/acb", false},
		{"flag/aa*aa", "flag/aaa", false},
	} {
		if got := connector.Glob(c.glob).Match(c.key); got != c.want {
			t.Errorf("%s matches %s: %v", c.glob, c.key, got)
		}
	}
}

func TestGlobsOverlapExactlyWhenSomeKeyIsNamedByBoth(t *testing.T) {
	var keys []string
	var grow func(string)
	grow = func(s string) {
		keys = append(keys, "flag/"+s)
		if len(s) < 6 {
			grow(s + "a")
			grow(s + "b")
		}
	}
	grow("")
	pattern := rapid.StringMatching(`[ab*]{1,3}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b := connector.Glob("flag/"+pattern.Draw(t, "a")), connector.Glob("flag/"+pattern.Draw(t, "b"))
		both := slices.ContainsFunc(keys, func(k string) bool { return a.Match(k) && b.Match(k) })
		if a.Overlaps(b) != both || b.Overlaps(a) != both {
			t.Fatalf("%s and %s overlap: %v, want %v", a, b, a.Overlaps(b), both)
		}
	})
}

func TestErrorsSayWhetherToRetry(t *testing.T) {
	for _, c := range []struct {
		err    error
		reason string
		perm   bool
	}{
		{connector.Failed(connector.ReasonWriteFailed, &fs.PathError{Err: unix.ENOSPC}), "disk-full", false},
		{connector.Failed(connector.ReasonWriteFailed, &fs.PathError{Err: unix.EACCES}), "write-failed", true},
		{connector.Failed(connector.ReasonWriteFailed, &fs.PathError{Err: unix.EIO}), "write-failed", false},
		{connector.Failed(connector.ReasonUnreadable, context.Canceled), "timeout", false},
		{fmt.Errorf("wrapped: %w", connector.Permanent(connector.ReasonReloadFailed, "no")), "reload-failed", true},
		{errors.New("something"), "connector-failed", false},
	} {
		if e := connector.AsError(c.err); string(e.Reason) != c.reason || e.Permanent != c.perm {
			t.Errorf("%v: %s, permanent %v", c.err, e.Reason, e.Permanent)
		}
	}
	if connector.AsError(nil) != nil {
		t.Error("nil is an error")
	}
}
