// Any bytes as a trace of requests, in each of the formats.
#include "fuzz_target.hpp"
#include "krul/simulate/trace_formats.hpp"

namespace krul::fuzz {
namespace {

void read_trace(std::span<const std::byte> bytes) {
  Input input(bytes);
  const std::size_t format = input.byte() % 3;
  const auto text = as_text(input.rest());
  const auto arrivals = format == 0   ? simulate::parse_azure_trace(text, 3)
                        : format == 1 ? simulate::parse_mooncake_trace(text)
                                      : simulate::parse_tester_trace(text, 3);
  if (!accepted(arrivals)) return;
  for (const auto& arrival : *arrivals)
    require(arrival.prompt >= 1 && arrival.output >= 1 && arrival.tokens() <= 3 * simulate::longest_request &&
                arrival.history <= 2 * simulate::longest_request && arrival.at_s == arrival.at_s,
            "a request cannot be");
}

std::vector<Bytes> trace_seeds() {
  return {joined({0},
                 "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 23:59:59.5000000,900,3\n"
                 "2023-11-17 00:00:01.0000000,100,0\n"),
          joined({1}, R"({"timestamp": 1, "input_length": 600, "output_length": 9, "hash_ids": [0]})"
                      "\n"
                      R"({"timestamp": 60000, "input_length": 1100, "output_length": 9, "hash_ids": [0, 1, 2]})"),
          joined({2}, R"({"block_size": 64, "requests": [{"t": 0.0, "in": 200, "out": 5, "hash_ids": [1, 2, 3, 4]},)"
                      R"({"t": 9.0, "in": 300, "out": 5, "hash_ids": [1, 2, 3, 5, 6]}]})")};
}

}  // namespace

Target trace_target() {
  return {"trace", read_trace, trace_seeds};
}

}  // namespace krul::fuzz
