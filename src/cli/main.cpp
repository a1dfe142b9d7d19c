#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "escaped.hpp"
#include "krul/core/finite.hpp"
#include "krul/core/version.hpp"
#include "revision.hpp"
#include "standard_streams.hpp"
#include "verbs.hpp"

namespace {

using namespace krul::cli;

/// No option takes an empty value: it is a variable of a script that was not set, and would mean the default.
void refuse_empty_values(CLI::App& app) {
  const CLI::Validator not_empty(
      [](std::string& text) -> std::string { return text.empty() ? "its value is empty" : ""; }, "");
  for (auto* option : app.get_options([](CLI::Option* each) { return each->get_expected_min() > 0; }))
    option->check(not_empty);
  for (auto* verb : app.get_subcommands({})) refuse_empty_values(*verb);
}

/// The program's words, last first, as CLI11 takes them. It would take the next word as the value of "--name=".
std::vector<std::string> words_of(int argc, char** argv) {
  std::vector<std::string> words;
  bool all_options = true;
  for (const char* const* at = argv + 1; at < argv + argc; ++at) {
    words.emplace_back(*at);
    all_options = all_options && words.back() != "--";
    const bool is_empty = words.back().starts_with("--") && words.back().find('=') == words.back().size() - 1;
    if (!all_options || !is_empty) continue;
    words.back().pop_back();
    words.emplace_back();
  }
  std::reverse(words.begin(), words.end());
  return words;
}

int failed(const Tool& tool, std::string_view code, const std::string& message) {
  tool.say("krul: " + escaped(message));
  if (tool.json && !tool.has_printed()) tool.print({{"error", {{"code", code}, {"message", message}}}});
  return 1;
}

int run(int argc, char** argv, Tool& tool) {
  CLI::App program{"krul: fast state restoration for multi-turn conversations", "krul"};
  program.set_version_flag("--version",
                           std::string(krul::krul_version) + " (" + std::string(krul::cli::revision()) + ")");
  program.add_flag("--json", tool.json, "one JSON object on standard output, nothing else there");
  program.fallthrough();
  program.require_subcommand(1);
  for (const auto add : {add_chat, add_generate, add_score, add_calibrate, add_evaluate, add_bench, add_demo,
                         add_simulate, add_saved, add_show, add_strategies})
    add(program, tool);
  refuse_empty_values(program);
  try {
    program.parse(words_of(argc, argv));
    tool.end_progress();
    return 0;
  } catch (const CLI::Success& asked_for) {
    return program.exit(asked_for);
  } catch (const CLI::RuntimeError& told) {
    return told.get_exit_code();
  } catch (const CLI::ParseError& usage) {
    // The flags in front of a mistake were not taken yet.
    tool.json = std::any_of(argv + 1, argv + argc, [](const char* word) { return std::string_view(word) == "--json"; });
    const auto words = program.remaining();
    const bool has_verb = !program.get_subcommands().empty();
    const std::string message = has_verb || words.empty() ? usage.what() : "krul has no verb \"" + words.front() + "\"";
    return failed(tool, krul::name(krul::ErrorCode::invalid_argument), message + "; see krul --help");
  } catch (const Failure& failure) {
    return failed(tool, krul::name(failure.error.code), failure.error.message);
  } catch (const krul::NotFiniteError& error) {
    return failed(tool, krul::name(krul::ErrorCode::backend), error.what());
  } catch (const std::bad_alloc&) {
    return failed(tool, "out_of_memory", "out of memory; use a shorter conversation or a smaller model");
  } catch (const std::exception& error) {
    return failed(tool, "internal", std::string("internal error: ") + error.what());
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGXFSZ, SIG_IGN);  // a file that grows beyond its limit is a write that fails, and says so
  prepare_standard_streams();
  Tool tool;
  const int code = run(argc, argv, tool);
  if (const auto written = flush_standard_output(); !written) {
    tool.say("krul: " + written.error().message);
    return 1;
  }
  return code;
}
