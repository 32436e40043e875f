package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// A record in the log is its length and its checksum (4 bytes each), its number (8 bytes), the
// offset at which its batch begins (8 bytes) and the data. The checksum is of everything else,
// so neither a record that was written in part nor one from another place is accepted.
//
// The log begins with magic. So a file that is no log is refused, rather than cut.
const (
	magic      = "epore wal 2\n"
	headerSize = 24
	maxRecord  = 64 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendRecord appends a record to b, whose batch begins at an offset of the log.
func appendRecord(b []byte, number uint64, batch int64, data []byte) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, number)
	b = binary.BigEndian.AppendUint64(b, uint64(batch))
	b = append(b, data...)
	binary.BigEndian.PutUint32(b[start+4:], checksum(b[start:]))
	return b
}

// checksum returns the checksum of a record, except for the field that holds it.
func checksum(record []byte) uint32 {
	return crc32.Update(crc32.Checksum(record[:4], castagnoli), castagnoli, record[8:])
}

var errNoLog = errors.New("not a log: choose another file")

// scan calls each for the records of a log, which are numbered from 0, and returns how many
// there are and where the last one ends. It stops at the first that is not complete. A log of
// which not even magic was written ends at 0.
func scan(r io.Reader, each func(number uint64, data []byte)) (records uint64, end int64, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	record := make([]byte, headerSize+maxRecord)
	n, err := io.ReadFull(in, record[:len(magic)])
	if !strings.HasPrefix(magic, string(record[:n])) {
		return 0, 0, errNoLog
	}
	for end = int64(n); err == nil; {
		if _, err = io.ReadFull(in, record[:headerSize]); err != nil {
			break
		}
		size := binary.BigEndian.Uint32(record)
		if size > maxRecord {
			break
		}
		whole := record[:headerSize+size]
		if _, err = io.ReadFull(in, whole[headerSize:]); err != nil {
			break
		}
		if binary.BigEndian.Uint64(record[8:]) != records || binary.BigEndian.Uint32(record[4:]) != checksum(whole) {
			break
		}
		if each != nil {
			each(records, whole[headerSize:])
		}
		records++
		end += int64(len(whole))
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	if end < int64(len(magic)) {
		end = 0
	}
	return records, end, err
}

// intactBehind looks for an intact record of a batch that begins behind end, where the first
// record that is not whole begins. A batch is written when the one before is synced. So with
// such a record, what is damaged at end was answered, and is no torn tail. Its length may be
// damaged as well, so each offset is tried. A client can write a record that holds such a record:
// if that is torn, the log is refused rather than cut, which loses nothing.
func intactBehind(f io.ReaderAt, records uint64, end, size int64) error {
	in := bufio.NewReaderSize(io.NewSectionReader(f, end, size-end), headerSize+maxRecord)
	for off := end; ; off++ {
		head, err := in.Peek(headerSize)
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		length, batch := binary.BigEndian.Uint32(head), int64(binary.BigEndian.Uint64(head[16:]))
		if binary.BigEndian.Uint64(head[8:]) > records && batch > end && batch <= off && length <= maxRecord {
			whole, err := in.Peek(headerSize + int(length))
			if err == nil && binary.BigEndian.Uint32(head[4:]) == checksum(whole) {
				return fmt.Errorf("record %d, at offset %d, %w: the record at offset %d is whole and was written later; "+
					"restore the file from a copy, or cut it at %d to lose everything from there on", records, end, errDamaged, off, end)
			}
		}
		_, _ = in.Discard(1)
	}
}

var errDamaged = errors.New("is damaged, and was answered")

// openLog opens the log, or creates it, and cuts off what is behind the last whole record. It
// returns how many records there are, where they end, and how much it cut off. It fails, and
// leaves the file as it is, if it would cut off records that were answered, and if another
// process has the log: both would write to the same places.
func openLog(path string) (f *os.File, records uint64, end, cut int64, err error) {
	f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, 0, 0, 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open the log %s: %w", path, err), f.Close())
		}
	}()
	if err = lock(f); err != nil {
		return f, 0, 0, 0, fmt.Errorf("another process has it, or it cannot be locked: %w", err)
	}
	if records, end, err = scan(f, nil); err != nil {
		return f, 0, 0, 0, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		err = intactBehind(f, records, end, size)
	}
	if err == nil {
		err = f.Truncate(end)
	}
	if cut = size - end; err == nil && end == 0 {
		end = int64(len(magic))
		_, err = f.WriteAt([]byte(magic), 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = syncFolder(filepath.Dir(path))
	}
	return f, records, end, cut, err
}

// syncFolder makes a new file in the folder survive the end of the machine. Windows has no such
// call.
func syncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
