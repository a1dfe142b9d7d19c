#include "krul/core/escaped.hpp"

#include <doctest/doctest.h>

namespace {
using krul::escaped;
using krul::Lines;
using krul::whole_characters;

TEST_CASE("what commands a terminal is spelled out, all other text stays") {
  CHECK(escaped("plain, \xc3\xbc, \xe6\xbc\xa2, \xf0\x9f\x8c\xb1, \\") ==
        "plain, \xc3\xbc, \xe6\xbc\xa2, \xf0\x9f\x8c\xb1, \\");
  CHECK(escaped("a\nb\tc\rd") == "a\\nb\\tc\\x0dd");
  CHECK(escaped("\x1b[2J\x7f") == "\\x1b[2J\\x7f");
  CHECK(escaped(std::string_view("\0", 1)) == "\\x00");
  CHECK(escaped("\xc2\x9b"
                "1m") == "\\x9b1m");  // the same command in one character
  CHECK(escaped("\xe2\x80\xae"
                "abc") == "\\u202eabc");  // turns what follows around
  CHECK(escaped("\xe2\x80\xa8\xe2\x81\xa6") == "\\u2028\\u2066");
}

TEST_CASE("bytes that are no UTF-8 are spelled out one by one") {
  for (const char* bytes :
       {"\xff", "\xc3", "\x80", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe6\xbc"}) {
    const std::string shown = escaped(bytes);
    CHECK(shown.size() == 4 * std::string_view(bytes).size());
    CHECK(shown.starts_with("\\x"));
  }
}

TEST_CASE("lines and tabs stay where a text has several lines") {
  CHECK(escaped("a\n\tb\r\x1b", Lines::many) == "a\n\tb\\x0d\\x1b");
}

TEST_CASE("escaping twice changes nothing") {
  const std::string once = escaped("a\n\x1b\xff\xe2\x80\xae");
  CHECK(escaped(once) == once);
}

TEST_CASE("ids that differ look different, and ids look the same when they are escaped once more") {
  using krul::escaped_id;
  CHECK(escaped_id("plain \xc3\xbc") == "plain \xc3\xbc");
  CHECK(escaped_id("\xff\xfe") == "\\xff\\xfe");
  CHECK(escaped_id("\\xff\\xfe") == "\\\\xff\\\\xfe");
  CHECK(escaped_id("\x9b") == "\\x9b");
  CHECK(escaped_id("\xc2\x9b") == "\\u009b");
  CHECK(escaped_id("a\n\xe2\x80\xae") == "a\\n\\u202e");
  // What cannot be seen is spelled out, too: a zero-width space, a soft hyphen, a Hangul filler, spaces at the ends.
  CHECK(escaped_id("a\xe2\x80\x8b") == "a\\u200b");
  CHECK(escaped_id("a\xc2\xad\xe3\x85\xa4") == "a\\u00ad\\u3164");
  CHECK(escaped_id("a\xef\xbb\xbf\xf3\xa0\x80\xa1") == "a\\ufeff\\ue0021");
  CHECK(escaped_id(" a b ") == "\\x20a b\\x20");
  CHECK(escaped_id(" ") == "\\x20");
  for (const char* id : {"\\", "\\n", "\n", "\xc2\x9b", "\xff", " ", "\xe2\x80\x8b"})
    CHECK(escaped(escaped_id(id)) == escaped_id(id));
}

TEST_CASE("a character of which bytes are to come is not whole") {
  CHECK(whole_characters("") == 0);
  CHECK(whole_characters("abc") == 3);
  CHECK(whole_characters("a\xc3") == 1);
  CHECK(whole_characters("a\xc3\xbc") == 3);
  CHECK(whole_characters("a\xf0\x9f\x8c") == 1);
  CHECK(whole_characters("a\xf0\x9f\x8c\xb1") == 5);
  CHECK(whole_characters("a\x80\x80\x80\x80") == 5);  // none begins there
}

}  // namespace
