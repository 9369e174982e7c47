package caddymodule

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/internal/demo"
	"github.com/sallyport/sallyport/token"
)

const demoHelp = `Starts the gate on a database of its own, in front of a sample API that it also
serves; makes an account, its owner and three tokens; and prints commands to paste
into another terminal, each with the answer to expect.

Everything is kept in one folder, which Ctrl-C removes, unless --keep is given.
Nothing of it listens on anything but this machine.`

// Where the demo listens unless told otherwise, if it is free there.
const (
	demoListen = "127.0.0.1:8080"
	demoAdmin  = "localhost:2019"
)

// demoEventInterval is how often the sample API's stream sends something.
const demoEventInterval = time.Second

func demoCommand(cmd *cobra.Command) {
	var o demoOptions
	cmd.Args = cobra.NoArgs
	cmd.Flags().StringVar(&o.dir, "dir", "", "the folder to keep everything in; by default, a new one for temporary files")
	cmd.Flags().BoolVar(&o.keep, "keep", false, "leave the folder behind")
	cmd.Flags().StringVar(&o.listen, "listen", "", "the address of the gate (default "+demoListen+", or a free port)")
	cmd.Flags().StringVar(&o.admin, "admin", "", "the address of the admin endpoint (default "+demoAdmin+", or a free port)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		o.program = programName(cmd)
		return inWords(runDemo(ctx, o, cmd.OutOrStdout()))
	}
}

type demoOptions struct {
	dir, listen, admin string
	keep               bool
	program            string // how to call the commands
}

// programName is how this program was called, so that the commands that are
// printed can be pasted.
func programName(cmd *cobra.Command) string {
	name := shellQuote(os.Args[0])
	if strings.Contains(os.Args[0], "go-build") {
		name = "go run ./cmd/sallyport" // where `go run` leaves its program is gone afterwards
	}
	if cmd.HasParent() && cmd.Parent().HasParent() {
		name += " " + cmd.Parent().Name() // caddy sallyport
	}
	return name
}

// shellQuote quotes a word for a POSIX shell, if it needs that.
func shellQuote(word string) string {
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_./:@%+,=", r))
	}) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// runDemo runs until the context ends, and leaves nothing behind.
func runDemo(ctx context.Context, o demoOptions, out io.Writer) (err error) {
	d := &demonstration{options: o}
	defer func() { err = errors.Join(err, d.close()) }()
	for _, step := range []func(context.Context) error{d.makeFolder, d.serveAPI, d.startGate, d.populate} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(out, d.story()); err != nil {
		return err
	}
	<-ctx.Done()
	fmt.Fprintln(out)
	return nil
}

// demonstration is a running demo, with what has to be undone after it.
type demonstration struct {
	options demoOptions
	undo    []func() error

	dir, gate, admin, upstream string

	account                     api.Account
	owner                       api.User
	readOnly, readWrite, custom api.Issued
	wrong                       token.Secret
}

// close undoes what was done, the last first.
func (d *demonstration) close() error {
	var errs []error
	for i := len(d.undo) - 1; i >= 0; i-- {
		errs = append(errs, d.undo[i]())
	}
	d.undo = nil
	return errors.Join(errs...)
}

// makeFolder makes the folder, and sees to it that only a folder that is the
// demo's own is removed.
func (d *demonstration) makeFolder(context.Context) error {
	dir, err := d.newFolder()
	if err != nil {
		return err
	}
	d.dir = dir
	if !d.options.keep {
		d.undo = append(d.undo, func() error { return os.RemoveAll(dir) })
	}
	// What Caddy keeps of its own accord belongs into the folder too.
	for _, name := range []string{"XDG_DATA_HOME", "XDG_CONFIG_HOME"} {
		if err := os.Setenv(name, filepath.Join(dir, "caddy")); err != nil {
			return err
		}
	}
	return nil
}

func (d *demonstration) newFolder() (string, error) {
	if d.options.dir == "" {
		return os.MkdirTemp("", "sallyport-demo-")
	}
	dir, err := filepath.Abs(d.options.dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 && !d.options.keep {
		err = errors.New("the folder of --dir is not empty, and the demo would remove it: name another one, or add --keep")
	}
	return dir, err
}

// serveAPI serves the sample API where only this machine reaches it.
func (d *demonstration) serveAPI(context.Context) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("the sample API: %w", err)
	}
	d.upstream = listener.Addr().String()
	server := &http.Server{Handler: demo.New(time.Now, demoEventInterval), ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // ends by Close
	}()
	d.undo = append(d.undo, func() error {
		err := server.Close()
		<-done
		return err
	})
	return nil
}

// startGate writes the Caddyfile and runs Caddy with it, as `run` would.
func (d *demonstration) startGate(context.Context) error {
	var err error
	if d.gate, err = demoAddress("--listen", d.options.listen, demoListen); err != nil {
		return err
	}
	if d.admin, err = demoAddress("--admin", d.options.admin, demoAdmin); err != nil {
		return err
	}
	text := d.caddyfile()
	file := d.file("Caddyfile")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": file})
	if err != nil {
		return err
	}
	caddy.BufferedLog() // until the log file of the configuration is open
	if err := caddy.Load(config, true); err != nil {
		return err
	}
	d.undo = append(d.undo, func() error {
		err := caddy.Stop()
		lingering.finish()
		return err
	})
	return nil
}

func (d *demonstration) file(name string) string { return filepath.Join(d.dir, name) }

// demoAddress settles on an address that is free now. One that was asked for is
// taken or refused; for the default, any other port will do.
func demoAddress(flag, asked, usual string) (string, error) {
	if asked == "" {
		if isFree(usual) {
			return usual, nil
		}
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		return listener.Addr().String(), listener.Close()
	}
	host, _, err := net.SplitHostPort(asked)
	if err != nil {
		return "", fmt.Errorf("%s takes an address such as %s", flag, usual)
	}
	if ip, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return "", fmt.Errorf("%s: the demo listens on this machine only, on an address such as %s", flag, usual)
	}
	if !isFree(asked) {
		return "", fmt.Errorf("%s: another program listens there already", flag)
	}
	return asked, nil
}

// isFree asks in the plain way: Caddy shares the ports that it listens on, also
// with another Caddy.
func isFree(address string) bool {
	listener, err := net.Listen("tcp", address)
	return err == nil && listener.Close() == nil
}

// populate makes the account, its owner and the tokens, through the admin endpoint
// as any operator would.
func (d *demonstration) populate(ctx context.Context) error {
	base, hc, err := adminClient(d.admin)
	if err != nil {
		return err
	}
	defer hc.CloseIdleConnections()
	c, err := api.NewClient(base, hc)
	if err != nil {
		return err
	}
	c.Operator = "demo"
	if d.account, err = c.CreateAccount(ctx, api.NewAccount{Name: "Example Ltd"}); err != nil {
		return err
	}
	if d.owner, err = c.CreateUser(ctx, api.NewUser{AccountID: d.account.ID, Name: "Ada Example", Email: "ada@example.com", Role: "owner"}); err != nil {
		return err
	}
	for _, n := range []struct {
		issued *api.Issued
		ask    api.NewToken
	}{
		{&d.readOnly, api.NewToken{Name: "reports", Access: token.ReadOnly}},
		{&d.readWrite, api.NewToken{Name: "checkout", UserID: d.owner.ID, Access: token.ReadWrite, IPAllowlist: []string{"127.0.0.1", "::1"}}},
		{&d.custom, api.NewToken{Name: "reconciliation", Access: token.Custom, Scopes: []string{"payments:read"}}},
	} {
		n.ask.AccountID = d.account.ID
		if *n.issued, err = c.CreateToken(ctx, rand.Text(), n.ask); err != nil {
			return err
		}
	}
	d.wrong, err = token.NewSecret(rand.Reader, token.DefaultPrefix, token.Production)
	return err
}
