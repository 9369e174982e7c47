package api

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
)

func TestABodyThatNeverEndsIsGivenUp(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, p := readBody(w, r, maxBody, time.Millisecond)
		if p == nil {
			w.WriteHeader(http.StatusOK)
			return
		}
		p.write(w)
	}))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	_, err = fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
	require.NoError(t, err)
	answer, err := io.ReadAll(conn) // the server closes: the rest can not be told from a next request
	require.NoError(t, err)
	require.Contains(t, string(answer), "400 Bad Request")
	require.Contains(t, string(answer), codeInvalidRequest)
}

func TestASwitchReadsAgainWhenItsVersionHasBecomeOld(t *testing.T) {
	type record struct {
		on    bool
		edits int
	}
	try := func(fail int, with error) (record, error) {
		edits := 0
		return switched(
			func() (record, error) { return record{}, nil },
			func(record) (record, error) {
				if edits++; edits <= fail {
					return record{}, with
				}
				return record{true, edits}, nil
			},
		)
	}
	old := &authority.Error{Code: authority.ErrVersionMismatch.Code, Detail: "read it again"}
	r, err := try(3, old)
	require.NoError(t, err)
	require.Equal(t, record{true, 4}, r)
	_, err = try(1000, old)
	require.ErrorIs(t, err, authority.ErrVersionMismatch)
	broken := errors.New("broken")
	_, err = try(1, broken)
	require.ErrorIs(t, err, broken)
}
