package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/api/client"
	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/trust"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// An actor is who acts at a publisher, and signs where approvals are signed.
type actor struct {
	desk     *client.Client
	name     string
	document events.Trust   // the newest
	signer   *events.Signer // nil where approvals are names
}

// act finds the publisher and who acts. Where approvals are signed their key must be here, and in the trust document.
func (c *cli) act(ctx context.Context) (actor, error) {
	desk, as, err := c.connect()
	if err != nil {
		return actor{}, err
	}
	pins, err := desk.Pins(ctx, "")
	if err != nil {
		return actor{}, err
	}
	a := actor{desk: desk, name: as, document: pins.Document}
	if pins.Document.Approvals != events.ApprovalsAreSigned {
		return a, nil
	}
	ring, err := c.ring()
	if err != nil {
		return a, err
	}
	k, err := ring.Read(as)
	if errors.Is(err, keys.ErrNoKey) {
		return a, noKey(as, ring)
	}
	if err != nil {
		return a, err
	}
	a.signer = k.Signer
	return a, a.known(k)
}

// actUnsigned finds the publisher and who acts, for what nobody needs to sign.
func (c *cli) actUnsigned(context.Context) (actor, error) {
	desk, as, err := c.connect()
	return actor{desk: desk, name: as}, err
}

// known says whether the trust document knows the key as that of who acts.
func (a actor) known(k keys.PersonKey) error {
	i := slices.IndexFunc(a.document.People, func(p events.Person) bool { return p.Name == a.name })
	switch {
	case i < 0:
		var names []string
		for _, p := range a.document.People {
			names = append(names, p.Name)
		}
		return console.Exit(console.ExitDenied, plain(a.name)+" is not in the trust document: say who you are with --as (it knows "+plain(strings.Join(names, ", "))+
			"), or have an administrator write 'publisher trust add "+shellWord(plain(a.name))+" --key "+k.Key+" --role ROLE --env ENV'")
	case !slices.Contains(a.document.People[i].Keys, k.Key):
		return console.Exit(console.ExitDenied, "the key in "+k.File+" is none of "+plain(a.name)+"'s in the trust document: name the directory with theirs with --keys. Only if you are "+plain(a.name)+" and have a new key: have an administrator write 'publisher trust rotate "+
			shellWord(plain(a.name))+" --key "+k.Key+"'")
	}
	return nil
}

// send has a command carried out, signed where it must be.
func (a actor) send(ctx context.Context, command ledger.Command, dryRun bool, life time.Duration) (ledger.Outcome, error) {
	command.By = a.name
	if a.signer == nil || dryRun {
		return a.desk.Do(ctx, command, dryRun)
	}
	return trust.Pen{Ledger: a.document.Ledger, Signer: a.signer, Life: life, Clock: time.Now}.Do(ctx, a.desk, command)
}

// shown is the change as its digest says that it is, which who signs the digest is shown, and not as the publisher describes it.
func (a actor) shown(ctx context.Context, change fleet.Change) (fleet.Change, error) {
	if a.signer == nil {
		return change, nil
	}
	terms, err := a.desk.Terms(ctx, change.ID)
	if err != nil {
		return change, err
	}
	terms.Trust = nil // that of a change of trust is shown and signed elsewhere
	if err := trust.Terms(terms, change.ID, change.Digest); err != nil {
		return change, err
	}
	described := change.Environments
	change.Environments = make([]fleet.ChangeEnvironment, len(terms.Environments))
	for i, e := range terms.Environments {
		part := fleet.ChangeEnvironment{Environment: e.Environment}
		if at := slices.IndexFunc(described, func(d fleet.ChangeEnvironment) bool { return d.Environment == e.Environment }); at >= 0 {
			part = described[at]
		}
		part.Operations = make([]fleet.OperationView, len(e.Operations))
		for j, op := range e.Operations {
			part.Operations[j] = fleet.OperationView{Op: op.Op, Key: op.Key, Before: e.Inverse[j].Value, After: op.Value}
		}
		change.Environments[i] = part
	}
	return change, nil
}
