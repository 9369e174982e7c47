// Package demo is what stands around the gate in the demo: a mailbox, and the small
// API that the gate guards, with accounts and payments to read and to write, a
// stream of events, a WebSocket that echoes, and a page that shows what the gate
// tells an upstream about its caller.
//
// Neither has authentication of its own, and must never listen on anything but a
// loopback address: whoever reaches the API directly has gone round the gate.
package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// Limits, so that a demo that is left running does not grow.
const (
	maxItems = 1000
	maxBody  = 64 << 10
	maxFrame = 64 << 10
)

// API is the sample API, kept in memory.
type API struct {
	mux      *http.ServeMux
	now      func() time.Time
	interval time.Duration

	mu    sync.Mutex
	items map[string]map[string]item // collection to ID to item
	last  int
}

// item is one record of a collection: what the client sent, with an ID and a time.
type item map[string]any

// New makes the API with a few records in it. Events are sent at the interval.
func New(now func() time.Time, interval time.Duration) *API {
	a := &API{
		mux:      http.NewServeMux(),
		now:      now,
		interval: interval,
		items:    map[string]map[string]item{"accounts": {}, "payments": {}},
	}
	for _, name := range []string{"Ada's Analytical Engines", "Babbage & Sons"} {
		a.add("accounts", item{"name": name})
	}
	for _, cents := range []int{1250, 99900} {
		a.add("payments", item{"amount_cents": cents, "currency": "EUR"})
	}
	for collection := range a.items {
		base := "/v1/" + collection
		a.mux.HandleFunc("GET "+base, a.list(collection))
		a.mux.HandleFunc("POST "+base, a.create(collection))
		a.mux.HandleFunc("GET "+base+"/{id}", a.get(collection))
		a.mux.HandleFunc("DELETE "+base+"/{id}", a.remove(collection))
	}
	a.mux.HandleFunc("GET /v1/whoami", whoami)
	a.mux.HandleFunc("GET /v1/events", a.events)
	a.mux.HandleFunc("GET /v1/echo", echo)
	a.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		problem(w, http.StatusNotFound, "there is nothing here; try /v1/accounts, /v1/payments, /v1/whoami, /v1/events or /v1/echo")
	})
	return a
}

// ServeHTTP serves the API.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// add stores an item under a new ID; false when the collection is full.
func (a *API) add(collection string, it item) (item, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.items[collection]) >= maxItems {
		return nil, false
	}
	a.last++
	it["id"] = fmt.Sprintf("%s_%06d", strings.TrimSuffix(collection, "s"), a.last)
	it["created_at"] = a.now().UTC().Format(time.RFC3339)
	a.items[collection][it["id"].(string)] = it
	return it, true
}

func (a *API) list(collection string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		a.mu.Lock()
		items := make([]item, 0, len(a.items[collection]))
		for _, id := range slices.Sorted(maps.Keys(a.items[collection])) {
			items = append(items, a.items[collection][id])
		}
		a.mu.Unlock()
		answer(w, http.StatusOK, map[string]any{collection: items})
	}
}

func (a *API) create(collection string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var it item
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&it)
		var tooLarge *http.MaxBytesError
		switch {
		case errors.As(err, &tooLarge):
			problem(w, http.StatusRequestEntityTooLarge, "a body has at most 64 KiB")
			return
		case err != nil || it == nil:
			problem(w, http.StatusBadRequest, "the body must be a JSON object")
			return
		}
		stored, ok := a.add(collection, it)
		if !ok {
			problem(w, http.StatusInsufficientStorage, fmt.Sprintf("the demo keeps at most %d %s; delete some", maxItems, collection))
			return
		}
		answer(w, http.StatusCreated, stored)
	}
}

func (a *API) get(collection string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		it, ok := a.items[collection][r.PathValue("id")]
		a.mu.Unlock()
		if !ok {
			problem(w, http.StatusNotFound, "no such record")
			return
		}
		answer(w, http.StatusOK, it)
	}
}

func (a *API) remove(collection string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		_, ok := a.items[collection][r.PathValue("id")]
		delete(a.items[collection], r.PathValue("id"))
		a.mu.Unlock()
		if !ok {
			problem(w, http.StatusNotFound, "no such record")
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

// whoami shows the identity headers as they arrive behind the gate. The
// credential is shown as present or absent only, since it must never arrive.
func whoami(w http.ResponseWriter, r *http.Request) {
	identity := map[string]string{}
	for name, values := range r.Header {
		if strings.HasPrefix(name, "Sallyport-") {
			identity[name] = strings.Join(values, ", ")
		}
	}
	answer(w, http.StatusOK, map[string]any{
		"identity":           identity,
		"credential_arrived": r.Header.Get("Authorization") != "" || r.Header.Get("X-Api-Key") != "",
	})
}

// events sends an event now and then, until the caller leaves or is cut off.
func (a *API) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	control := http.NewResponseController(w)
	ticker := time.NewTicker(a.interval)
	defer ticker.Stop()
	for n := 1; ; n++ {
		if _, err := fmt.Fprintf(w, "id: %d\nevent: tick\ndata: {\"at\":%q}\n\n", n, a.now().UTC().Format(time.RFC3339)); err != nil {
			return
		}
		if err := control.Flush(); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-ticker.C:
		}
	}
}

// echo sends every WebSocket message back.
func echo(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(maxFrame)
	for {
		kind, message, err := conn.Read(r.Context())
		if err != nil {
			return
		}
		if err := conn.Write(r.Context(), kind, message); err != nil {
			return
		}
	}
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(body) // the caller left
}

func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	body, err := json.Marshal(map[string]any{"status": status, "title": http.StatusText(status), "detail": detail})
	if err == nil {
		_, _ = io.WriteString(w, string(body)+"\n")
	}
}
