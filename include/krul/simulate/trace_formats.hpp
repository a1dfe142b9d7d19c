#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/simulate/trace.hpp"

namespace krul::simulate {

/// Most tokens that a request of a trace may name: no model has a longer context.
inline constexpr std::size_t longest_request = 10'000'000;

/// A trace that names blocks and no conversations, such as Mooncake's.
/// @param requests  by time
/// @param block     tokens of a block
[[nodiscard]] inline std::vector<Arrival> arrivals_by_hashes(std::span<const HashedRequest> requests,
                                                             std::size_t block) {
  ConversationFinder finder;
  std::vector<Arrival> arrivals;
  for (const HashedRequest& request : requests) arrivals.push_back(finder.add(request, block));
  return arrivals;
}

/// The requests of one conversation, such as a file of kv-cache-tester holds: what a request shares with the one before
/// is its history.
/// @param index  of the conversation, which begins as many minutes later
[[nodiscard]] inline std::vector<Arrival> arrivals_of_conversation(std::span<const HashedRequest> requests,
                                                                   std::size_t block, std::size_t index) {
  std::vector<Arrival> arrivals;
  std::span<const std::uint64_t> before;
  for (const HashedRequest& request : requests) {
    const std::size_t input = std::clamp<std::size_t>(request.input, 1, longest_request);
    const std::size_t history = std::min(common_prefix(before, request.hashes) * block, input - 1);
    arrivals.push_back({.at_s = request.at_s + 60 * static_cast<double>(index),
                        .conversation = index,
                        .history = history,
                        .prompt = input - history,
                        .output = std::clamp<std::size_t>(request.output, 1, longest_request)});
    before = request.hashes;
  }
  return arrivals;
}

/// Azure's trace, TIMESTAMP,ContextTokens,GeneratedTokens below a line of titles. It has no conversations: each request
/// stands for one that comes back, all but whose last 128 tokens are history that was saved before.
/// @param first  number of the first conversation
/// @return corrupt, with the line, if one is no request
/// @source the columns: the trace's README, read; what stands for a history: ours
[[nodiscard]] Result<std::vector<Arrival>> parse_azure_trace(std::string_view text, std::size_t first = 0);

/// Mooncake's trace: {"timestamp": ms, "input_length": tokens, "output_length": tokens, "hash_ids": [blocks of 512
/// tokens]} a line; empty lines are left out.
/// @return corrupt, with the line, if one is no request
[[nodiscard]] Result<std::vector<Arrival>> parse_mooncake_trace(std::string_view text);

/// A file of kv-cache-tester, one conversation: {"block_size": tokens, "requests": [{"t": s, "in": tokens,
/// "out": tokens, "hash_ids": [blocks]}]}
/// @param index  as in arrivals_of_conversation
/// @return corrupt if it is none
[[nodiscard]] Result<std::vector<Arrival>> parse_tester_trace(std::string_view text, std::size_t index);

}  // namespace krul::simulate
