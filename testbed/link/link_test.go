package link_test

import (
	"io"
	"net"
	"testing"

	"github.com/weirmq/weir/testbed/link"
)

func echo(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

func TestLinkForwardsCutsAndRestores(t *testing.T) {
	k, err := link.New(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	talk := func() error {
		c, err := net.Dial("tcp", k.Addr())
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Write([]byte("hello")); err != nil {
			return err
		}
		_, err = io.ReadFull(c, make([]byte, 5))
		return err
	}
	if err := talk(); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", k.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	k.Cut()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Fatal("a cut connection still reads")
	}
	if err := talk(); err == nil {
		t.Fatal("a link that is cut lets a connection through")
	}
	k.Restore()
	if err := talk(); err != nil {
		t.Fatal(err)
	}
	k.Freeze()
	got := make(chan error, 1)
	go func() { got <- talk() }()
	select {
	case err := <-got:
		t.Fatalf("a frozen link answered: %v", err)
	default:
	}
	k.Restore()
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}
