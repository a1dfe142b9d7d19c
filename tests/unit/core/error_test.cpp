#include <doctest/doctest.h>

#include <krul/core/error.hpp>
#include <set>

using krul::Error;
using krul::ErrorCode;
using krul::Result;
using krul::Status;

TEST_CASE("every code has a spelling of its own") {
  std::set<std::string_view> names;
  constexpr auto count = static_cast<std::size_t>(ErrorCode::medium) + 1;
  for (std::size_t code = 0; code < count; ++code) names.insert(name(static_cast<ErrorCode>(code)));
  CHECK(names.size() == count);
  CHECK_FALSE(names.contains(""));
  CHECK(name(ErrorCode::invalid_argument) == "invalid_argument");
  CHECK(name(ErrorCode::identity_mismatch) == "identity_mismatch");
  CHECK(name(ErrorCode::backend) == "backend");
}

TEST_CASE("a failure carries its code and sentence through results of other types") {
  const auto read = []() -> Result<int> { return krul::fail(ErrorCode::truncated, "The file ends early."); };
  const auto use = [&]() -> Status {
    const auto value = read();
    if (!value) return krul::propagate(value);
    return {};
  };
  const Status status = use();
  REQUIRE_FALSE(status.has_value());
  CHECK(status.error() == Error{ErrorCode::truncated, "The file ends early."});
}

TEST_CASE("expects throws its sentence, as a mistake of the caller") {
  CHECK_NOTHROW(krul::expects(true, "fine"));
  CHECK_THROWS_WITH_AS(krul::expects(false, "Workers: at least one thread"), "Workers: at least one thread",
                       krul::PreconditionError);
  CHECK_THROWS_AS(krul::expects(false, "x"), std::logic_error);
}

TEST_CASE("or_throw gives the value, or throws the sentence") {
  CHECK(krul::or_throw(Result<int>(3)) == 3);
  CHECK_NOTHROW(krul::or_throw(Status{}));
  const auto failed = [] { krul::or_throw(Status(krul::fail(ErrorCode::busy, "Somebody else has it."))); };
  CHECK_THROWS_WITH_AS(failed(), "Somebody else has it.", krul::ResultError);
  try {
    krul::or_throw(Result<int>(krul::fail(ErrorCode::io, "The disk is gone.")));
    FAIL("no exception");
  } catch (const krul::ResultError& error) {
    CHECK(error.error == Error{ErrorCode::io, "The disk is gone."});
  }
}
