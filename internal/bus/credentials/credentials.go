// Package credentials makes who may do what on the bus: the operator, its accounts (SYS, LOCKSTEP for publishers, AGENTS), and the
// credentials of publishers and agents, as NATS's JWTs.
//
// Guarantees: everything lies in one directory of the publisher's data, readable by its owner alone, and is refused otherwise; it is made
// whole or not at all; what an agent gets opens its own environment and name only (ARCHITECTURE.md, The bus). What is issued follows from
// the ledger: the same agents enrolled and revoked give the same rights. Seeds are in no error.
//
// It is not for what agents believe: a release counts by its signatures, whoever brought it.
package credentials

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/lockstep-dev/lockstep/internal/keys"
)

// Directory is the name of the credentials within the publisher's data directory, and the files in it.
const (
	Directory     = "credentials"
	offlineFile   = "operator.offline.key"
	operatorKey   = "operator.key"
	operatorFile  = "operator.jwt"
	systemKey     = "system.key"
	publisherKey  = "lockstep.key"
	agentsKey     = "agents.key"
	publisherFile = "publisher.creds"
	systemFile    = "system.creds"
	accountsDir   = "accounts"
	serverFile    = "nats-operator.conf"
)

// ErrNone: the data directory has no credentials of the bus.
var ErrNone = errors.New("no credentials of the bus")

// An Authority issues the bus's credentials.
type Authority struct {
	dir                                 string
	claims                              string // the operator's JWT
	operator, system, publisher, agents nkeys.KeyPair
}

// Make makes all credentials of a bus in a publisher's data directory, which it makes too, and returns the file to take offline: the
// operator's own key, which nothing needs from then on but replacing the operator's other key. Where there are some already it is
// fs.ErrExist, and nothing is changed.
func Make(data string) (offline string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("make the bus's credentials: %w", err)
		}
	}()
	final := filepath.Join(data, Directory)
	if _, err := os.Lstat(final); err == nil {
		return "", fmt.Errorf("%s is there already: %w", final, fs.ErrExist)
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(data, Directory+".new-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir) // it has its other name then
	if err := fill(dir); err != nil {
		return "", err
	}
	if err := os.Rename(dir, final); err != nil {
		return "", err
	}
	return filepath.Join(final, offlineFile), nil
}

// fill writes everything new into a directory.
func fill(dir string) (err error) {
	a, made := &Authority{dir: dir}, map[string]nkeys.KeyPair{}
	for name, create := range map[string]func() (nkeys.KeyPair, error){
		offlineFile: nkeys.CreateOperator, operatorKey: nkeys.CreateOperator,
		systemKey: nkeys.CreateAccount, publisherKey: nkeys.CreateAccount, agentsKey: nkeys.CreateAccount,
	} {
		if made[name], err = create(); err != nil {
			return err
		}
		seed, err := made[name].Seed()
		if err != nil {
			return err
		}
		if err := keys.WritePrivate(filepath.Join(dir, name), append(seed, '\n')); err != nil {
			return err
		}
	}
	a.operator, a.system, a.publisher, a.agents = made[operatorKey], made[systemKey], made[publisherKey], made[agentsKey]
	if err := a.writeOperator(made[offlineFile]); err != nil {
		return err
	}
	err = a.writeUser(publisherFile, a.publisher, "publisher", []string{">"}, []string{">"})
	if err == nil {
		err = a.writeUser(systemFile, a.system, "publisher-system", []string{"$SYS.REQ.>"}, []string{">"})
	}
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(dir, accountsDir), 0o700); err != nil {
		return err
	}
	return a.Store(nil)
}

func (a *Authority) writeOperator(identity nkeys.KeyPair) error {
	public, err := identity.PublicKey()
	if err != nil {
		return err
	}
	signing, err := a.operator.PublicKey()
	if err != nil {
		return err
	}
	claims := jwt.NewOperatorClaims(public)
	claims.Name = "lockstep"
	claims.SigningKeys.Add(signing)
	if claims.SystemAccount, err = a.system.PublicKey(); err != nil {
		return err
	}
	if a.claims, err = claims.Encode(identity); err != nil {
		return err
	}
	return keys.WritePrivate(filepath.Join(a.dir, operatorFile), []byte(a.claims))
}

func (a *Authority) writeUser(file string, account nkeys.KeyPair, name string, publish, subscribe []string) error {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return err
	}
	public, err := pair.PublicKey()
	if err != nil {
		return err
	}
	seed, err := pair.Seed()
	if err != nil {
		return err
	}
	encoded, err := user(account, public, name, publish, subscribe)
	if err != nil {
		return err
	}
	decorated, err := jwt.FormatUserConfig(encoded, seed)
	if err != nil {
		return err
	}
	return keys.WritePrivate(filepath.Join(a.dir, file), decorated)
}

// Open reads the credentials of a publisher's data directory. Where it has none it is ErrNone; where others could read one of the files,
// keys.ErrExposed.
func Open(data string) (*Authority, error) {
	a := &Authority{dir: filepath.Join(data, Directory)}
	if _, err := os.Stat(a.dir); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s", ErrNone, data)
	}
	for name, pair := range map[string]*nkeys.KeyPair{operatorKey: &a.operator, systemKey: &a.system, publisherKey: &a.publisher, agentsKey: &a.agents} {
		seed, err := keys.ReadPrivate(filepath.Join(a.dir, name))
		if err != nil {
			return nil, fmt.Errorf("the bus's credentials: %w", err)
		}
		if *pair, err = nkeys.ParseDecoratedNKey(seed); err != nil {
			return nil, fmt.Errorf("the bus's credentials: %s holds no seed: take it back from a copy", filepath.Join(a.dir, name))
		}
	}
	for name, text := range map[string]*string{operatorFile: &a.claims, publisherFile: nil, systemFile: nil} {
		b, err := keys.ReadPrivate(filepath.Join(a.dir, name))
		if err != nil {
			return nil, fmt.Errorf("the bus's credentials: %w", err)
		}
		if text != nil {
			*text = string(b)
		}
	}
	return a, nil
}

// Publisher is the credentials file of publishers.
func (a *Authority) Publisher() string { return filepath.Join(a.dir, publisherFile) }

// System is the credentials file of the system account, for revocations and for proving durability.
func (a *Authority) System() string { return filepath.Join(a.dir, systemFile) }

// Operator is the operator's JWT.
func (a *Authority) Operator() string { return a.claims }

// Resolver is the directory where the embedded server finds and keeps the accounts' JWTs.
func (a *Authority) Resolver() string { return filepath.Join(a.dir, accountsDir) }

// Account is the public key of LOCKSTEP, under which a server keeps the streams.
func (a *Authority) Account() (string, error) { return a.publisher.PublicKey() }

// Server is the file that an existing NATS server includes in its configuration to be this operator's. It holds no secret.
func (a *Authority) Server() string { return filepath.Join(a.dir, serverFile) }

// AccountsOnServer is the directory that Server names for the accounts; a server keeps there what it is told of them.
const AccountsOnServer = "/var/lib/nats/accounts"

// Store writes the accounts' JWTs into the resolver's directory and into Server: a server that starts knows whom to keep out before anybody
// tells it. Who was kept out there stays so.
func (a *Authority) Store(revoked []string) error {
	accounts, err := a.Accounts(append(a.stored(), revoked...))
	for public, encoded := range accounts {
		err = errors.Join(err, keys.WritePrivate(a.account(public), []byte(encoded)))
	}
	if err == nil {
		err = a.storeServer(accounts)
	}
	if err != nil {
		return fmt.Errorf("write the bus's accounts: %w", err)
	}
	return nil
}

func (a *Authority) storeServer(accounts map[string]string) error {
	system, err := a.system.PublicKey()
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Who comes in: what Lockstep's publisher issued. Written by it; include it in the configuration of every server.\n")
	fmt.Fprintf(&b, "operator: %s\nsystem_account: %s\n", a.claims, system)
	fmt.Fprintf(&b, "# What the publisher tells the server later is kept here, and counts where it is newer.\n")
	fmt.Fprintf(&b, "resolver: { type: full, dir: %q, allow_delete: false, interval: \"2m\" }\nresolver_preload: {\n", AccountsOnServer)
	for _, public := range slices.Sorted(maps.Keys(accounts)) {
		fmt.Fprintf(&b, "  %s: %s\n", public, accounts[public])
	}
	b.WriteString("}\n")
	return keys.WritePrivate(a.Server(), []byte(b.String()))
}

// stored are the keys that are kept out in the resolver's directory. What is no JWT there is written anew.
func (a *Authority) stored() (revoked []string) {
	public, err := a.agents.PublicKey()
	if err != nil {
		return nil
	}
	encoded, err := os.ReadFile(a.account(public))
	if err != nil {
		return nil
	}
	claims, err := jwt.DecodeAccountClaims(string(encoded))
	if err != nil {
		return nil
	}
	return slices.Collect(maps.Keys(claims.Revocations))
}

func (a *Authority) account(public string) string { return filepath.Join(a.Resolver(), public+".jwt") }
