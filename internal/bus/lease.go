package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

const leaseKey = "publisher"

// ensureLease makes the bucket, or checks the one that is there.
func (c *Conn) ensureLease(ctx context.Context, o StreamOptions) error {
	bounded, cancel := c.bounded(ctx)
	defer cancel()
	want := jetstream.KeyValueConfig{
		Bucket:   events.BucketLease,
		History:  1,
		TTL:      cmp.Or(o.LeaseTTL, defaultLeaseTTL),
		Storage:  jetstream.FileStorage, // so that the bucket is still there after the server was
		Replicas: max(o.Replicas, 1),
	}
	_, err := c.js.CreateKeyValue(bounded, want)
	if err == nil {
		return nil
	}
	if !errors.Is(err, jetstream.ErrBucketExists) {
		return c.failed(ctx, "make the bucket "+want.Bucket, err)
	}
	_, ttl, err := c.lease(ctx)
	if err == nil && ttl != want.TTL {
		err = &SettingError{events.BucketLease, "ttl", want.TTL.String(), ttl.String()}
	}
	return err
}

func (c *Conn) lease(ctx context.Context) (jetstream.KeyValue, time.Duration, error) {
	bounded, cancel := c.bounded(ctx)
	defer cancel()
	kv, err := c.js.KeyValue(bounded, events.BucketLease)
	if err != nil {
		return nil, 0, c.failed(ctx, "open the bucket "+events.BucketLease, err)
	}
	status, err := kv.Status(bounded)
	if err != nil {
		return nil, 0, c.failed(ctx, "look at the bucket "+events.BucketLease, err)
	}
	return kv, status.TTL(), nil
}

// A Lease is whose it is, as the bus says.
type Lease struct {
	Holder  string    // "": nobody's
	Renewed time.Time // the bus's stamp of the newest renewal; whoever holds it renews it in every third of its life
	TTL     time.Duration
}

// Lease says who holds the lease, or held it last when it has not run out yet.
func (c *Conn) Lease(ctx context.Context) (Lease, error) {
	kv, ttl, err := c.lease(ctx)
	if err != nil {
		return Lease{}, err
	}
	bounded, cancel := c.bounded(ctx)
	defer cancel()
	entry, err := kv.Get(bounded, leaseKey)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return Lease{TTL: ttl}, nil
	case err != nil:
		return Lease{}, c.failed(ctx, "look at the lease", err)
	}
	return Lease{string(entry.Value()), entry.Created(), ttl}, nil
}

// A holding is the lease in one holder's hands.
type holding struct {
	kv       jetstream.KeyValue
	holder   string
	ttl      time.Duration
	revision uint64
	renewed  time.Time // before the last successful renewal was sent, so the bus counts from later
}

// HoldLease waits for the lease, runs fn while it is held, and waits for it again when it was lost: then fn's context ends with the
// cause ErrLeaseLost, a third of the lease's time before another can get it. When fn returns by itself, or ctx ends, the lease is
// given back and HoldLease returns. Holder is for people and must be a different one for each publisher.
//
// The lease spares publishers work that another one does; it protects nothing. Only the expected sequences of appends and
// releases do.
func (c *Conn) HoldLease(ctx context.Context, holder string, fn func(context.Context)) error {
	for {
		kv, ttl, err := c.lease(ctx)
		if err == nil {
			h := &holding{kv: kv, holder: holder, ttl: ttl}
			if err = h.acquire(ctx); err == nil {
				err = h.run(ctx, fn)
			}
		}
		switch {
		case err == nil || ctx.Err() != nil:
			return context.Cause(ctx)
		case !errors.Is(err, ErrLeaseLost) && !errors.Is(err, ErrUnavailable):
			return err
		}
		if _, err := c.connected(ctx); err != nil {
			return err
		}
		if err := pause(ctx, jitter(reopenDelay)); err != nil {
			return err
		}
	}
}

// acquire tries whenever the holder gives the lease back, and several times in the lease's life because a dead one does not.
func (h *holding) acquire(ctx context.Context) error {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var changes <-chan jetstream.KeyValueEntry
	if w, err := h.kv.Watch(watching, leaseKey); err == nil {
		changes = w.Updates()
	}
	for {
		bounded, cancel := context.WithTimeout(ctx, h.ttl)
		h.renewed = time.Now()
		revision, err := h.kv.Create(bounded, leaseKey, []byte(h.holder))
		cancel()
		switch {
		case err == nil:
			h.revision = revision
			return nil
		case !errors.Is(err, jetstream.ErrKeyExists):
			return failed(ctx, "take the lease", err)
		}
		retry := time.NewTimer(jitter(h.ttl / 3))
		for waiting := true; waiting; {
			select {
			case entry, open := <-changes:
				if !open {
					changes = nil
				}
				waiting = entry == nil || entry.Operation() == jetstream.KeyValuePut
			case <-retry.C:
				waiting = false
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		retry.Stop()
	}
}

func (h *holding) run(ctx context.Context, fn func(context.Context)) error {
	held, lose := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn(held)
	}()
	err := h.keep(ctx, done)
	lose(err)
	<-done
	if err == nil {
		h.release(ctx)
	}
	return err
}

// keep renews until fn is done or ctx ends (nil), or until the lease is lost.
func (h *holding) keep(ctx context.Context, done <-chan struct{}) error {
	for wait := h.ttl / 3; ; {
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		end := h.renewed.Add(h.ttl * 2 / 3)
		bounded, cancel := context.WithDeadline(ctx, end)
		start := time.Now()
		revision, err := h.kv.Update(bounded, leaseKey, []byte(h.holder), h.revision)
		cancel()
		switch {
		case err == nil:
			h.revision, h.renewed, wait = revision, start, h.ttl/3
		case isWrongSequence(err) || errors.Is(err, jetstream.ErrKeyExists):
			return fmt.Errorf("%w: another publisher has it", ErrLeaseLost)
		case ctx.Err() == nil && !time.Now().Before(end):
			return fmt.Errorf("%w: not renewed in time: %w", ErrLeaseLost, err)
		default:
			wait = h.ttl / 20
		}
	}
}

// release lets the next one in at once; where it fails, the lease runs out.
func (h *holding) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.ttl)
	defer cancel()
	_ = h.kv.Delete(ctx, leaseKey, jetstream.LastRevision(h.revision))
}
