package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
)

// An Operator says who may connect: users of its accounts, by their JWTs and keys.
type Operator struct {
	JWT      string // the operator's, which names the system account
	Accounts string // directory of the accounts' JWTs, one file each, which the server keeps: updates are pushed to it
	Account  string // public key of the account that has the streams
}

const resolverSync = time.Minute // with other servers, of which there are none

func (o *Operator) configure(opts *server.Options) error {
	claims, err := jwt.DecodeOperatorClaims(o.JWT)
	if err != nil {
		return fmt.Errorf("operator: %w", err)
	}
	resolver, err := server.NewDirAccResolver(o.Accounts, 0, resolverSync, server.NoDelete)
	if err != nil {
		return fmt.Errorf("accounts in %s: %w", o.Accounts, err)
	}
	opts.TrustedOperators, opts.SystemAccount, opts.AccountResolver = []*jwt.OperatorClaims{claims}, claims.SystemAccount, resolver
	return nil
}

// everybody is the account of a server that has no accounts.
const everybody = "$G"

// adopt gives the account what a server that had no accounts stored.
func (o *Operator) adopt(storeDir string) error {
	before, now := filepath.Join(storeDir, server.JetStreamStoreDir, everybody), filepath.Join(storeDir, server.JetStreamStoreDir, o.Account)
	if _, err := os.Stat(now); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(before, now); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("streams of the time before there were accounts: %w", err)
	}
	return nil
}
