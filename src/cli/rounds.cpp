#include "rounds.hpp"

#include "number_option.hpp"

namespace krul::cli {

CLI::Option* PatienceOption::add_to(CLI::App& verb) {
  return add_number(verb, "--patience", limit_s, {0, 1e9},
                    "seconds in all after which no round is begun: the best there are count, disturbed or not");
}

void RoundsOption::add_count_to(CLI::App& verb) {
  add_number(verb, "--rounds", clean, {1, 1000}, "clean rounds");
}

void RoundsOption::add_to(CLI::App& verb) {
  add_count_to(verb);
  patience.add_to(verb);
}

std::string RoundsNote::text() const {
  std::string lines;
  if (disturbed) lines += "disturbed: others kept the machine busy; the quietest rounds there are count\n";
  if (cut_short) lines += "patience ran out before there were as many rounds as were asked for: see --patience\n";
  return lines;
}

Json RoundsNote::run(const LoadedModel& model) const {
  Json run = describe_run(model);
  run["disturbed"] = disturbed;
  run["cut_short"] = cut_short;
  return run;
}

}  // namespace krul::cli
