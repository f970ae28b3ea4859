// The oracle: for each case of a folder, connects Go's TLS client to Go's TLS server, and writes what the client says.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The time of every handshake. The same stands in src/tls/tests/.
var now = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func main() {
	names, err := filepath.Glob(filepath.Join(os.Args[1], "*.name"))
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range names {
		base := strings.TrimSuffix(name, ".name")
		verdict := "accepted"
		if err := dial(base); err != nil {
			verdict = strings.ReplaceAll(err.Error(), "\n", " ")
		}
		if err := os.WriteFile(base+".verdict", []byte(verdict+"\n"), 0o644); err != nil {
			log.Fatal(err)
		}
	}
}

func dial(base string) error {
	read := func(extension string) []byte {
		data, err := os.ReadFile(base + extension)
		if err != nil {
			log.Fatal(err)
		}
		return data
	}
	var pair tls.Certificate
	for rest := read(".sent"); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		pair.Certificate = append(pair.Certificate, block.Bytes)
	}
	block, _ := pem.Decode(read(".key"))
	key, keyErr := x509.ParsePKCS8PrivateKey(block.Bytes)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(read(".trusted"))
	name := strings.TrimSpace(string(read(".name")))
	if keyErr != nil {
		// Go's server cannot use the key. What its client would say of the certificate:
		leaf, err := x509.ParseCertificate(pair.Certificate[0])
		if err == nil {
			_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: now})
		}
		if err == nil {
			err = errors.New("no handshake: " + keyErr.Error())
		}
		return err
	}
	pair.PrivateKey = key
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()
	go func() {
		server, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		config := &tls.Config{Certificates: []tls.Certificate{pair}}
		_ = tls.Server(server, config).Handshake()
		_ = server.Close()
	}()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	config := &tls.Config{RootCAs: roots, ServerName: name, Time: func() time.Time { return now }}
	return tls.Client(client, config).Handshake()
}
