#include "krul/simulate/trace_formats.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>

namespace krul::simulate {
namespace {

using Json = nlohmann::json;

// Not get<>(): it converts any number, and one that is too large has no defined result.
// @throws Json::type_error if it is no whole number of 64 bits
std::uint64_t whole_number(const Json& value) {
  return value.get_ref<const Json::number_unsigned_t&>();
}

HashedRequest hashed_request(double at_s, const Json& input, const Json& output, const Json& hashes) {
  HashedRequest request{.at_s = at_s, .input = whole_number(input), .output = whole_number(output), .hashes = {}};
  for (const Json& hash : hashes.get_ref<const Json::array_t&>()) request.hashes.push_back(whole_number(hash));
  return request;
}

}  // namespace

Result<std::vector<Arrival>> parse_azure_trace(std::string_view text, std::size_t first) {
  std::vector<Arrival> arrivals;
  std::stringstream lines{std::string(text)};
  std::string line;
  std::getline(lines, line);
  std::optional<double> start_s;
  for (std::size_t number = 2; std::getline(lines, line); ++number) {
    int year = 0;
    unsigned month = 0, day = 0, hour = 0, minute = 0;
    double second = 0;
    unsigned long context = 0, generated = 0;
    if (std::sscanf(line.c_str(), "%d-%u-%u %u:%u:%lf,%lu,%lu", &year, &month, &day, &hour, &minute, &second, &context,
                    &generated) != 8 ||
        context > longest_request || generated > longest_request || !(second >= 0 && second < 61))
      return fail(ErrorCode::corrupt, "line " + std::to_string(number) + " is not one of Azure's trace");
    const std::chrono::year_month_day day_of{std::chrono::year{year}, std::chrono::month{month}, std::chrono::day{day}};
    if (!day_of.ok() || hour > 23 || minute > 59)
      return fail(ErrorCode::corrupt, "line " + std::to_string(number) + " of Azure's trace has no such time");
    const std::chrono::sys_days date = day_of;
    const double at_s =
        static_cast<double>(date.time_since_epoch().count()) * 86400 + hour * 3600 + minute * 60 + second;
    if (!start_s) start_s = at_s;
    const std::size_t prompt = std::clamp<std::size_t>(context, 1, 128);
    arrivals.push_back({.at_s = std::max(at_s - *start_s, 0.0),
                        .conversation = first + arrivals.size(),
                        .history = context > prompt ? context - prompt : 0,
                        .prompt = prompt,
                        .output = std::max<std::size_t>(generated, 1),
                        .saved = true});
  }
  return arrivals;
}

Result<std::vector<Arrival>> parse_mooncake_trace(std::string_view text) {
  std::vector<HashedRequest> requests;
  std::stringstream lines{std::string(text)};
  std::size_t number = 0;
  const auto refused = [&] {
    return fail(ErrorCode::corrupt, "line " + std::to_string(number) + " is not one of Mooncake's trace");
  };
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.empty()) continue;
    try {
      const auto json = Json::parse(line);
      requests.push_back(hashed_request(json.at("timestamp").get<double>() / 1e3, json.at("input_length"),
                                        json.at("output_length"), json.at("hash_ids")));
    } catch (const Json::exception&) {
      return refused();
    }
    if (std::max(requests.back().input, requests.back().output) > longest_request) return refused();
  }
  return arrivals_by_hashes(requests, 512);
}

Result<std::vector<Arrival>> parse_tester_trace(std::string_view text, std::size_t index) {
  std::vector<HashedRequest> requests;
  try {
    const auto json = Json::parse(text);
    for (const auto& request : json.at("requests"))
      requests.push_back(
          hashed_request(request.at("t").get<double>(), request.at("in"), request.at("out"), request.at("hash_ids")));
    return arrivals_of_conversation(requests, whole_number(json.at("block_size")), index);
  } catch (const Json::exception&) {
    return fail(ErrorCode::corrupt, "it is not a conversation of kv-cache-tester");
  }
}

}  // namespace krul::simulate
