// Package embedded runs a NATS server with JetStream inside the publisher.
//
// Guarantees: every append is fsynced before it is acknowledged (SyncAlways), all limits are explicit, the listener is on
// loopback unless TLS is given, with an Operator or with required client certificates, and Shutdown returns when the store is closed.
//
// It is not for clusters (use an existing NATS for those), and it knows nothing of Lockstep's streams (package bus does). Without an
// Operator it authenticates nobody on loopback: what agents believe rests on signatures.
package embedded

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"
)

// Limits of the server; far above what Lockstep needs, far below what would take a machine down.
const (
	defaultMaxStore  = 64 << 30
	defaultMaxMemory = 256 << 20
	defaultMaxConns  = 20_000
	maxConsumers     = 100_000
	writeDeadline    = 10 * time.Second
	readyTimeout     = 30 * time.Second
	readyStep        = 50 * time.Millisecond
)

// Options of a Server.
type Options struct {
	StoreDir       string    // where the streams lie; required, and of one server only
	Host           string    // listening address; empty: 127.0.0.1
	Port           int       // listening port; 0: chosen by the system
	TLS            *TLS      // required where Host is not loopback
	Operator       *Operator // who says who may connect; nil: everybody may who reaches the server
	MaxStore       int64     // bytes on disk; 0: 64 GiB
	MaxMemory      int64     // bytes of streams in memory; 0: 256 MiB
	MaxConnections int       // 0: 20,000
	Log            zerolog.Logger
}

// TLS names the PEM files of a listener that other machines reach. Clients must show a certificate signed by CA, which may be empty
// where there is an Operator: then their credentials say who they are, and nobody else comes in.
type TLS struct {
	Cert, Key, CA string
}

// A Server is a running NATS server.
type Server struct {
	nats *server.Server
}

// Start starts a server and returns when it accepts connections and its streams are recovered.
func Start(o Options) (*Server, error) {
	opts, err := o.server()
	if err != nil {
		return nil, err
	}
	if o.Operator != nil {
		if err := o.Operator.adopt(o.StoreDir); err != nil {
			return nil, fmt.Errorf("embedded bus: %w", err)
		}
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("embedded bus: %w", err)
	}
	log := &logger{log: o.Log, fatal: make(chan error, 1)}
	ns.SetLoggerV2(log, false, false, false)
	ns.Start()
	s := &Server{nats: ns}
	if err := ready(ns, log.fatal); err != nil {
		s.Shutdown()
		return nil, fmt.Errorf("embedded bus: not ready on %s with the store %s: %w: check that the port is free and the directory is writable and of this server only",
			net.JoinHostPort(opts.Host, strconv.Itoa(opts.Port)), o.StoreDir, err)
	}
	return s, nil
}

// ready waits in short steps, so that nothing waits any more once the server has said that it cannot start.
func ready(ns *server.Server, fatal <-chan error) error {
	for until := time.Now().Add(readyTimeout); ; {
		accepts := ns.ReadyForConnections(readyStep)
		select {
		case err := <-fatal:
			return err
		default:
		}
		if accepts && ns.JetStreamEnabled() {
			return nil
		}
		if accepts || time.Now().After(until) {
			return fmt.Errorf("it does not serve after %s", readyTimeout)
		}
	}
}

func (o Options) server() (*server.Options, error) {
	if o.StoreDir == "" {
		return nil, errors.New("embedded bus: no store directory given: name one that is kept over restarts")
	}
	opts := &server.Options{
		ServerName:         "lockstep",
		Host:               cmp.Or(o.Host, "127.0.0.1"),
		Port:               cmp.Or(o.Port, server.RANDOM_PORT),
		NoSigs:             true,
		JetStream:          true,
		StoreDir:           o.StoreDir,
		SyncAlways:         true,
		JetStreamMaxStore:  cmp.Or(o.MaxStore, defaultMaxStore),
		JetStreamMaxMemory: cmp.Or(o.MaxMemory, defaultMaxMemory),
		JetStreamLimits:    server.JSLimitOpts{DefaultMaxConsumers: maxConsumers},
		MaxConn:            cmp.Or(o.MaxConnections, defaultMaxConns),
		WriteDeadline:      writeDeadline,
	}
	if o.Operator != nil {
		if err := o.Operator.configure(opts); err != nil {
			return nil, fmt.Errorf("embedded bus: %w", err)
		}
	}
	if o.TLS == nil {
		if !loopback(opts.Host) {
			return nil, fmt.Errorf("embedded bus: %s is reachable from other machines, but there is no TLS: give a certificate and its key, and, where there are no credentials, the CA of the agents' client certificates, or listen on 127.0.0.1", opts.Host)
		}
		return opts, nil
	}
	config, err := o.TLS.config()
	if err != nil {
		return nil, fmt.Errorf("embedded bus: %w", err)
	}
	if o.TLS.CA == "" && o.Operator == nil {
		return nil, errors.New("embedded bus: TLS needs the CA of the client certificates where no credentials say who may connect")
	}
	opts.TLS, opts.TLSVerify, opts.TLSConfig = true, o.TLS.CA != "", config
	opts.TLSTimeout = writeDeadline.Seconds()
	return opts, nil
}

func (t *TLS) config() (*tls.Config, error) {
	if t.Cert == "" || t.Key == "" {
		return nil, errors.New("TLS needs a certificate and its key: give both files")
	}
	pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("TLS certificate %s with key %s: %w", t.Cert, t.Key, err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if t.CA == "" {
		return config, nil
	}
	pem, err := os.ReadFile(t.CA)
	if err != nil {
		return nil, fmt.Errorf("TLS client CA: %w", err)
	}
	config.ClientCAs, config.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !config.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("TLS client CA %s: no PEM certificate in it", t.CA)
	}
	return config, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// ClientURL is where agents on this machine connect.
func (s *Server) ClientURL() string { return s.nats.ClientURL() }

// InProcessConn is a connection that needs no socket; the publisher's own goes this way.
func (s *Server) InProcessConn() (net.Conn, error) { return s.nats.InProcessConn() }

// Healthy says why the server cannot serve: after a failed write a stream is frozen until the server is restarted.
func (s *Server) Healthy() error {
	if h := s.nats.Healthz(&server.HealthzOptions{JSServerOnly: true}); h.Status != "ok" {
		return fmt.Errorf("embedded bus: %s: free the disk or mend it, then restart", h.Error)
	}
	return nil
}

// Shutdown closes all connections and the store, and waits until that is done.
func (s *Server) Shutdown() {
	s.nats.Shutdown() // not LameDuckShutdown, which never ends where there is no listener
	s.nats.WaitForShutdown()
}
