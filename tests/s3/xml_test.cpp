#include "s3/xml.hpp"

#include <doctest/doctest.h>

#include <new>
#include <span>
#include <string>

#include "s3/answer.hpp"

namespace krul::test {
namespace {

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

bool is_refused(const std::string& text) {
  const Status status = s3::read_xml(bytes_of(text), [](std::string_view, std::string_view) {});
  return !status && status.error().code == ErrorCode::corrupt;
}

std::string nested(std::size_t depth) {
  std::string opened, closed;
  for (std::size_t i = 0; i < depth; ++i) opened += "<a>", closed += "</a>";
  return opened + closed;
}

}  // namespace

TEST_CASE("read_xml: elements with their paths and texts, as they end") {
  std::string seen;
  const std::string text =
      "<?xml version=\"1.0\"?>\n<List xmlns=\"urn:x\">\n <Entry><Key> a&amp;b </Key></Entry><Entry/></List>";
  REQUIRE(s3::read_xml(bytes_of(text), [&](std::string_view path, std::string_view value) {
    seen += std::string(path) + "=" + std::string(value) + ";";
  }));
  CHECK(seen == "List/Entry/Key=a&b;List/Entry=;List/Entry=;List=;");
}

TEST_CASE("read_xml: what S3 does not send is refused") {
  CHECK(is_refused(""));
  CHECK(is_refused("no"));
  CHECK(is_refused("<a>"));
  CHECK(is_refused("<a></b>"));
  CHECK(is_refused("<a/><b/>"));
  CHECK(is_refused("<a>&b;</a>"));
  CHECK(is_refused("<a>\xff</a>"));
  CHECK(is_refused("<!DOCTYPE a><a/>"));
  CHECK(is_refused("<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>"));
  CHECK_FALSE(is_refused(nested(8)));
  CHECK(is_refused(nested(9)));
  CHECK(is_refused(nested(10'000)));
  CHECK_FALSE(is_refused("<a>" + std::string(4096, 'x') + "</a>"));
  CHECK(is_refused("<a>" + std::string(4097, 'x') + "</a>"));
  CHECK(is_refused("<" + std::string(65, 'x') + "/>"));
}

TEST_CASE("read_xml: cut anywhere and with any byte changed, it ends") {
  const std::string text = "<Error><Code>SlowDown</Code><Message>x &lt; y</Message></Error>";
  for (std::size_t i = 0; i < text.size(); ++i) {
    CHECK(is_refused(text.substr(0, i)));
    for (int bit = 0; bit < 8; ++bit) {
      std::string changed = text;
      changed[i] = static_cast<char>(changed[i] ^ 1 << bit);
      static_cast<void>(is_refused(changed));
    }
  }
}

TEST_CASE("read_xml: what the receiver throws comes out") {
  CHECK_THROWS_AS(
      (void)s3::read_xml(bytes_of("<a/>"), [](std::string_view, std::string_view) { throw std::bad_alloc(); }),
      std::bad_alloc);
}

TEST_CASE("take_header: the last head counts, and nonsense is passed over") {
  s3::Answer answer;
  for (const char* const line :
       {"HTTP/1.1 100 Continue\r\n", "ETag: \"old\"\r\n", "\r\n", "HTTP/1.1 206 Partial Content\r\n",
        "eTaG:  \"new\" \r\n", "Content-Length: 12\r\n", "content-range: bytes 0-11/99\r\n",
        "Date: Mon, 30 Nov 2026 09:54:33 GMT\r\n", "nonsense\r\n", "X-Amz-Meta-Krul-Write: m\r\n"})
    s3::take_header(answer, line);
  CHECK(answer.status == 206);
  CHECK(answer.is_success());
  CHECK(answer.etag == "\"new\"");
  CHECK(answer.length == 12);
  CHECK(answer.total == 99);
  CHECK(answer.unix_s == 1796032473);
  CHECK(answer.mark == "m");
  for (const char* const line : {"Content-Length: -1", "Content-Range: bytes */x", "Date: never", "HTTP/", "HTTP/1.1"})
    s3::take_header(answer, line);
  CHECK(answer.status == 0);
  for (const std::string& etag :
       {std::string(2000, 'x'), std::string(200, 'x'), std::string("\"a\rb\""), std::string("<a>")}) {
    s3::take_header(answer, "HTTP/1.1 200 OK");
    s3::take_header(answer, "ETag: " + etag);
    CHECK(answer.etag.empty());
  }
}

TEST_CASE("describe: each refusal has its code, and a sentence that says what to do") {
  const s3::Told told{.action = "write object x", .bucket = "b", .server = "https://h", .attempts = 3};
  const auto code_of = [&](long status, const char* code) {
    s3::Answer answer;
    answer.status = status;
    answer.code = code;
    const Error error = s3::describe(answer, told);
    CHECK(error.message.starts_with("cannot write object x: "));
    CHECK(error.message.find("; ") != std::string::npos);
    return error.code;
  };
  CHECK(code_of(404, "NoSuchKey") == ErrorCode::not_found);
  CHECK(code_of(404, "") == ErrorCode::not_found);
  CHECK(code_of(404, "NoSuchBucket") == ErrorCode::io);
  CHECK(code_of(401, "") == ErrorCode::io);
  CHECK(code_of(403, "AccessDenied") == ErrorCode::io);
  CHECK(code_of(403, "QuotaExceeded") == ErrorCode::no_space);
  CHECK(code_of(507, "") == ErrorCode::no_space);
  CHECK(code_of(400, "QuotaExceeded") == ErrorCode::no_space);
  CHECK(code_of(400, "XMinioStorageFull") == ErrorCode::no_space);
  CHECK(code_of(409, "ConditionalRequestConflict") == ErrorCode::busy);
  CHECK(code_of(412, "PreconditionFailed") == ErrorCode::busy);
  CHECK(code_of(413, "") == ErrorCode::too_large);
  CHECK(code_of(400, "EntityTooLarge") == ErrorCode::too_large);
  CHECK(code_of(400, "IllegalLocationConstraintException") == ErrorCode::invalid_argument);
  CHECK(code_of(416, "InvalidRange") == ErrorCode::truncated);
  CHECK(code_of(501, "NotImplemented") == ErrorCode::unsupported);
  CHECK(code_of(503, "SlowDown") == ErrorCode::io);
  CHECK(code_of(200, "") == ErrorCode::io);
}

}  // namespace krul::test
