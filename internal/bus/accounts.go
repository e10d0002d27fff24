package bus

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/nats-io/nats.go"
)

// PushAccounts gives the server new JWTs of accounts, by their public keys. It cuts off who is revoked in them. O names credentials of the
// system account.
func PushAccounts(ctx context.Context, o Options, accounts map[string]string) error {
	nc, err := dial(ctx, cmp.Or(o.URL, nats.DefaultURL), o.nats())
	if err != nil {
		return fmt.Errorf("connect to the bus's system account: %w: %w", ErrUnavailable, err)
	}
	defer nc.Close()
	for _, public := range slices.Sorted(maps.Keys(accounts)) {
		if err := pushAccount(ctx, nc, accounts[public]); err != nil {
			return fmt.Errorf("tell the bus of account %s: %w", public, err)
		}
	}
	return nil
}

func pushAccount(ctx context.Context, nc *nats.Conn, account string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	reply, err := nc.RequestWithContext(ctx, "$SYS.REQ.CLAIMS.UPDATE", []byte(account))
	if err != nil {
		return fmt.Errorf("%w: %w: does the server have a resolver that takes updates (type full)?", ErrUnavailable, err)
	}
	var answer struct {
		Error *struct{ Description string }
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return err
	}
	if answer.Error != nil {
		return errors.New(answer.Error.Description)
	}
	return nil
}

// Account is the public key of the account that the server has the connection in; on a server without accounts it is $G.
func (c *Conn) Account(ctx context.Context) (string, error) {
	reply, err := c.request(ctx, "$SYS.REQ.USER.INFO", nil)
	if err != nil {
		return "", c.failed(ctx, "ask who the bus thinks this is", err)
	}
	var answer struct{ Data struct{ Account string } }
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return "", fmt.Errorf("ask who the bus thinks this is: %w", err)
	}
	return answer.Data.Account, nil
}
