// Command tidb runs a TiDB server with its embedded store, for tests: on loopback, in one folder, until SIGTERM.
//
// The server is TiDB's own, from its packages. What a cluster has and this has not: TiKV and PD. The embedded store
// ("unistore") takes their place, in this process; it keeps its data in the folder.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/pingcap/tidb/pkg/config"
	"github.com/pingcap/tidb/pkg/ddl"
	"github.com/pingcap/tidb/pkg/domain"
	"github.com/pingcap/tidb/pkg/executor"
	"github.com/pingcap/tidb/pkg/kv"
	"github.com/pingcap/tidb/pkg/resourcemanager"
	"github.com/pingcap/tidb/pkg/server"
	"github.com/pingcap/tidb/pkg/session"
	kvstore "github.com/pingcap/tidb/pkg/store"
	"github.com/pingcap/tidb/pkg/store/mockstore"
	"github.com/pingcap/tidb/pkg/util"
	"github.com/pingcap/tidb/pkg/util/logutil"
	"github.com/pingcap/tidb/pkg/util/metricsutil"
)

var (
	folder = flag.String("path", "", "folder for data, an absolute path")
	port   = flag.Uint("port", 4000, "port on 127.0.0.1")
	second = flag.Uint("second", 0, "port of a second server on the same store; SIGUSR1 shuts the first one down")
	socket = flag.String("socket", "", "path of a Unix socket, of the first server")
	script = flag.String("init", "", "file of SQL to run when the folder is new")
	ca     = flag.String("ssl-ca", "", "TLS: file of the authorities of clients")
	cert   = flag.String("ssl-cert", "", "TLS: file of the certificate")
	key    = flag.String("ssl-key", "", "TLS: file of its key")
	grace  = flag.Duration("grace", 15*time.Second, "how long a shutdown waits for open transactions")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	if !filepath.IsAbs(*folder) {
		return errors.New("-path: an absolute path is needed")
	}
	if err := os.Chdir(*folder); err != nil { // some files of TiDB's own go to where it runs
		return err
	}
	stop := notified(syscall.SIGTERM, syscall.SIGINT)
	stopFirst := notified(syscall.SIGUSR1)
	config.UpdateGlobal(configure)
	if err := logutil.InitLogger(config.GetGlobalConfig().Log.ToLogConfig()); err != nil {
		return err
	}
	if err := errors.Join(metricsutil.RegisterMetrics(), kvstore.Register("unistore", mockstore.EmbedUnistoreDriver{})); err != nil {
		return err
	}
	executor.Start()
	resourcemanager.InstanceResourceManager.Start()
	session.SetSchemaLease(config.DefSchemaLease)
	kv.TxnTotalSizeLimit.Store(config.SuperLargeTxnSize)
	store, err := kvstore.New("unistore://" + config.GetGlobalConfig().Path)
	if err != nil {
		return err
	}
	if err = ddl.StartOwnerManager(context.Background(), store); err != nil {
		return err
	}
	dom, err := session.BootstrapSession(store)
	if err != nil {
		return err
	}
	servers := Servers{}
	failed := make(chan error, 2)
	for _, number := range []uint{*port, *second} {
		if number == 0 {
			continue
		}
		config.UpdateGlobal(func(c *config.Config) {
			c.Port = number
			if number != *port {
				c.Socket = ""
			}
		})
		one, err := server.NewServer(config.GetGlobalConfig(), server.NewTiDBDriver(store))
		if err != nil {
			return err
		}
		one.SetDomain(dom)
		servers = append(servers, one)
	}
	dom.InfoSyncer().SetSessionManager(&Sessions{servers[0], servers})
	for _, one := range servers {
		go func() { failed <- one.Run(dom) }()
	}
	for {
		select {
		case err := <-failed:
			if err != nil {
				return err
			}
		case <-stopFirst:
			servers[0].Close()
			servers[0].DrainClients(*grace, time.Second)
		case <-stop:
			servers.close()
			return closeStore(store, dom)
		}
	}
}

func configure(c *config.Config) {
	c.Host, c.Socket = "127.0.0.1", *socket
	c.Store, c.Path, c.TempDir = "unistore", filepath.Join(*folder, "data"), filepath.Join(*folder, "tmp")
	c.Status.ReportStatus = false
	c.Log.Level = "warn"
	c.Log.SlowQueryFile = filepath.Join(*folder, "slow.log")
	c.Security.SSLCA, c.Security.SSLCert, c.Security.SSLKey = *ca, *cert, *key
	c.InitializeSQLFile = *script
}

func notified(signals ...os.Signal) <-chan os.Signal {
	channel := make(chan os.Signal, 1)
	signal.Notify(channel, signals...)
	return channel
}

func closeStore(store kv.Storage, dom *domain.Domain) error {
	dom.Close()
	ddl.CloseOwnerManager()
	return store.Close()
}

// Servers are one or two servers on one store.
type Servers []*server.Server

func (s Servers) close() {
	for _, one := range s {
		one.Close()
		one.DrainClients(*grace, time.Second)
		one.KillSysProcesses()
	}
}

// Sessions are the sessions of all servers, for SHOW PROCESSLIST, KILL and changes of tables; the rest is the first's.
type Sessions struct {
	*server.Server
	all Servers
}

func (s *Sessions) ShowProcessList() map[uint64]*util.ProcessInfo {
	found := map[uint64]*util.ProcessInfo{}
	for _, one := range s.all {
		maps.Copy(found, one.ShowProcessList())
	}
	return found
}

func (s *Sessions) GetProcessInfo(id uint64) (*util.ProcessInfo, bool) {
	info, ok := s.ShowProcessList()[id]
	return info, ok
}

func (s *Sessions) Kill(id uint64, query bool, maxExecutionTime bool, runaway bool) {
	for _, one := range s.all {
		one.Kill(id, query, maxExecutionTime, runaway)
	}
}

func (s *Sessions) CheckOldRunningTxn(versions map[int64]int64, ids map[int64]string) {
	for _, one := range s.all {
		one.CheckOldRunningTxn(versions, ids)
	}
}
