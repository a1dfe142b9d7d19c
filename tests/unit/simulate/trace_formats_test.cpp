#include "krul/simulate/trace_formats.hpp"

#include <doctest/doctest.h>

using namespace krul;
using namespace krul::simulate;

TEST_CASE("requests that name their blocks") {
  const std::vector<HashedRequest> requests = {{.at_s = 0, .input = 512, .output = 10, .hashes = {0}},
                                               {.at_s = 60, .input = 1024, .output = 10, .hashes = {0, 1}}};
  const auto arrivals = arrivals_by_hashes(requests, 512);
  REQUIRE(arrivals.size() == 2);
  CHECK(arrivals[1].conversation == 0);
  CHECK(arrivals[1].history == 522);
}

TEST_CASE("one conversation: what a request shares with the one before is its history") {
  const std::vector<HashedRequest> requests = {{.at_s = 0, .input = 200, .output = 5, .hashes = {1, 2, 3, 4}},
                                               {.at_s = 9, .input = 300, .output = 0, .hashes = {1, 2, 3, 5, 6}},
                                               {.at_s = 10, .input = 0, .output = 1, .hashes = {1}}};
  const auto arrivals = arrivals_of_conversation(requests, 64, 2);
  REQUIRE(arrivals.size() == 3);
  CHECK(arrivals[0].at_s == 120);
  CHECK(arrivals[0].history == 0);
  CHECK(arrivals[1].history == 192);
  CHECK(arrivals[1].prompt == 108);
  CHECK(arrivals[1].output == 1);
  CHECK(arrivals[2].history == 0);  // leaves one new token
  for (const Arrival& arrival : arrivals) CHECK(arrival.conversation == 2);
}

TEST_CASE("Azure's trace: each request stands for one that comes back") {
  const auto arrivals = parse_azure_trace(
      "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 23:59:59.5000000,900,3\n2023-11-17 00:00:01.0000000,100,0\n",
      7);
  REQUIRE(arrivals);
  REQUIRE(arrivals->size() == 2);
  const Arrival &first = arrivals->front(), &second = arrivals->back();
  CHECK(first.at_s == 0);
  CHECK(first.conversation == 7);
  CHECK(first.history == 772);
  CHECK(first.prompt == 128);
  CHECK(first.saved);
  CHECK(second.at_s == doctest::Approx(1.5));  // over midnight
  CHECK(second.conversation == 8);
  CHECK(second.history == 0);
  CHECK(second.prompt == 100);
  CHECK(second.output == 1);
  CHECK(parse_azure_trace("head\n")->empty());
  for (const char* line : {"1,2", "2023-11-16 23:59:59,99999999,1", ""}) {
    const auto refused = parse_azure_trace(std::string("head\n2023-11-16 23:59:59,1,1\n") + line + "\n");
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == ErrorCode::corrupt);
    CHECK(refused.error().message.find("line 3") != std::string::npos);
  }
}

TEST_CASE("Mooncake's trace: a JSON object a line") {
  const std::string first = R"({"timestamp": 500, "input_length": 512, "output_length": 10, "hash_ids": [0]})";
  const auto arrivals = parse_mooncake_trace(
      first + "\n\n" + R"({"timestamp": 60500, "input_length": 1024, "output_length": 0, "hash_ids": [0, 1]})");
  REQUIRE(arrivals);
  REQUIRE(arrivals->size() == 2);
  CHECK(arrivals->back().at_s == 60.5);
  CHECK(arrivals->back().history == 522);
  CHECK(arrivals->back().output == 1);
  CHECK(parse_mooncake_trace("")->empty());
  for (const char* line :
       {"{}", "[]", "x", R"({"timestamp": 1, "input_length": 10000001, "output_length": 1, "hash_ids": []})",
        R"({"timestamp": 1, "input_length": -1, "output_length": 1, "hash_ids": []})",
        R"({"timestamp": 1, "input_length": 1e60, "output_length": 1, "hash_ids": []})",
        R"({"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": [1e60]})",
        R"({"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": 3})",
        R"({"timestamp": 1e999, "input_length": 1, "output_length": 1, "hash_ids": []})",
        R"({"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": ["a"]})"}) {
    CAPTURE(line);
    const auto refused = parse_mooncake_trace(first + "\n" + line + "\n");
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == ErrorCode::corrupt);
    CHECK(refused.error().message.find("line 2") != std::string::npos);
  }
}

TEST_CASE("a file of kv-cache-tester is one conversation") {
  const auto arrivals =
      parse_tester_trace(R"({"block_size": 64, "requests": [{"t": 0.5, "in": 200, "out": 5, "hash_ids": [1, 2, 3, 4]},)"
                         R"( {"t": 9.0, "in": 300, "out": 5, "hash_ids": [1, 2, 3, 5, 6]}]})",
                         1);
  REQUIRE(arrivals);
  REQUIRE(arrivals->size() == 2);
  CHECK(arrivals->front().at_s == 60.5);
  CHECK(arrivals->back().history == 192);
  for (const char* text :
       {"", "[]", "{}", R"({"block_size": 64, "requests": [{}]})", R"({"block_size": "a", "requests": []})",
        R"({"block_size": 1e60, "requests": []})", R"({"block_size": 64, "requests": 3})"}) {
    CAPTURE(text);
    const auto refused = parse_tester_trace(text, 0);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == ErrorCode::corrupt);
  }
}
