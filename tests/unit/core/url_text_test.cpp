#include "krul/core/url_text.hpp"

#include <doctest/doctest.h>

namespace krul {
namespace {

TEST_CASE("a text is cut off at the first separator, which goes with it") {
  std::string_view text = "a=b=";
  CHECK(cut_off(text, '=') == "a");
  CHECK(text == "b=");
  CHECK(cut_off(text, '=') == "b");
  CHECK(text.empty());
  text = "whole";
  CHECK(cut_off(text, '=') == "whole");
  CHECK(text.empty());
  CHECK(cut_off(text, '=').empty());
}

TEST_CASE("percent signs stand for bytes, or the text is none") {
  CHECK(percent_decoded("") == "");
  CHECK(percent_decoded("a%20b%2F%2f%25") == "a b//%");
  CHECK(percent_decoded("%00%ff") == std::string("\0\xff", 2));
  for (const char* text : {"%", "a%", "%1", "%1g", "%g1", "%+1", "%-1", "% 1", "%%20"})
    CHECK_FALSE(percent_decoded(text));
}

}  // namespace
}  // namespace krul
