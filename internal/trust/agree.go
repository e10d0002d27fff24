package trust

import (
	"bytes"
	"path"
	"slices"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Terms says whether a digest that a publisher names is that of a change's terms. Errors are *ledger.Error.
func Terms(terms ledger.Terms, change string, digest events.Digest) error {
	computed, err := terms.Digest()
	switch {
	case err != nil:
		return distrust("what change %s is has no digest: %v", change, err)
	case terms.Change != change || computed != digest:
		return distrust("what is shown of change %s has the digest %s, and %s was to be signed", change, computed.Short(), digest.Short())
	}
	return nil
}

// agree says whether what a publisher answered that a command is about is what the command says, as far as that can be known here.
func agree(body ledger.Body, asked ledger.Outcome) error {
	switch b := body.(type) {
	case ledger.Approve:
		return same(b.Change, b.Digest, asked)
	case ledger.BreakGlass:
		return same(b.Change, b.Digest, asked)
	case ledger.ProposeTrust:
		return Terms(ledger.Terms{Change: asked.Change, Trust: &b.Document}, asked.Change, asked.Digest)
	case ledger.Propose:
		return proposes(b.Edits, asked)
	case ledger.Rebase:
		return proposes(nil, asked)
	case ledger.Revise:
		if asked.Change != b.Change {
			return distrust("a revision of %s was to be signed for %s", b.Change, asked.Change)
		}
		return proposes(b.Edits, asked)
	}
	return nil // no release rests on its statement
}

func same(change string, digest events.Digest, asked ledger.Outcome) error {
	if asked.Change != change || asked.Digest != digest {
		return distrust("%s with the digest %s was looked at, and %s with %s was to be signed", change, digest.Short(), asked.Change, asked.Digest.Short())
	}
	return nil
}

// proposes says whether the terms of a proposal have its digest, and hold no operation that its edits do not ask for. Of what is compiled
// from manifests there are no edits.
func proposes(edits []ledger.Edit, asked ledger.Outcome) error {
	if asked.Terms == nil || asked.Terms.Trust != nil {
		return distrust("it does not say what would be proposed as %s", asked.Change)
	}
	if err := Terms(*asked.Terms, asked.Change, asked.Digest); err != nil || len(edits) == 0 {
		return err
	}
	for _, e := range asked.Terms.Environments {
		for _, op := range e.Operations {
			if !asksFor(edits, e.Environment, op) {
				return distrust("%s in %s was to be signed, which is not what you propose", op.Key, e.Environment)
			}
		}
	}
	return nil
}

// asksFor says whether the last of the edits that is about an operation's resource asks for it.
func asksFor(edits []ledger.Edit, environment string, op events.Operation) bool {
	for _, edit := range slices.Backward(edits) {
		value, sets := edit.Set[op.Key]
		deletes := slices.Contains(edit.Delete, op.Key)
		if !sets && !deletes || !slices.ContainsFunc(edit.Environments, func(pattern string) bool {
			matched, _ := path.Match(pattern, environment)
			return matched || pattern == environment
		}) {
			continue
		}
		canonical, err := events.Canonical(value)
		return deletes && op.Op == events.OpDelete || sets && op.Op == events.OpSet && err == nil && bytes.Equal(canonical, op.Value)
	}
	return false
}

// distrust refuses to sign.
func distrust(format string, args ...any) error {
	return refuse(ledger.KindDenied, "nothing was signed; do not sign at this publisher before you know why it says so", "the publisher contradicts itself: "+format, args...)
}
