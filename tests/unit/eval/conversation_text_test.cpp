#include "krul/eval/conversation_text.hpp"

#include <doctest/doctest.h>

#include "krul/core/file_io.hpp"
#include "krul/eval/task_text.hpp"
#include "support/temporary_directory.hpp"

namespace krul {
namespace {

constexpr const char* two_conversations =
    R"({"id": "a", "source": "garden", "messages": [{"role": "user", "content": "Beans?"}], "next": "And squash?"})"
    "\n \n"
    R"({"messages": [{"role": "user", "content": "Squash?"}, {"role": "assistant", "content": "Yes."}]})"
    "\n";

TEST_CASE("conversations are read line by line, and named by their line where they have no name") {
  const auto found = eval::parse_conversations(two_conversations);
  REQUIRE(found);
  REQUIRE(found->size() == 2);
  CHECK(found->at(0).id == "a");
  CHECK(found->at(0).source == "garden");
  CHECK(found->at(0).next == "And squash?");
  CHECK(found->at(1).id == "line-3");
  CHECK(found->at(1).source.empty());
  CHECK(found->at(1).messages.at(1).content == "Yes.");
}

TEST_CASE("what is no conversation is refused by its line, what is no task as well") {
  for (const char* line : {"beans", "[1]", "{}", R"({"messages": [{"role": "user"}]})"}) {
    CAPTURE(line);
    const auto found = eval::parse_conversations("\n" + std::string(line));
    REQUIRE_FALSE(found);
    CHECK(found.error().code == ErrorCode::invalid_argument);
    CHECK(found.error().message.find("line 2") != std::string::npos);
  }
  CHECK_FALSE(eval::parse_conversations("\n"));
  CHECK(eval::parse_conversations(R"({"id": "mute", "messages": []})").error().message.find("mute") !=
        std::string::npos);
  CHECK(eval::parse_tasks(R"({"context": "x"})").error().message.find("line 1") != std::string::npos);
  CHECK(eval::parse_tasks(R"({"id": "mute", "context": "x", "question": "y", "answer": ""})")
            .error()
            .message.find("mute") != std::string::npos);
  const auto tasks = eval::parse_tasks(R"({"context": "x", "question": "y", "answer": "z"})");
  REQUIRE(tasks);
  CHECK(tasks->front().id == "line-1");
  CHECK(tasks->front().lead.empty());
}

TEST_CASE("a file's name stands for the source, and in what is told of it") {
  const test::TemporaryDirectory directory;
  const auto file = directory.path() / "talks.jsonl";
  REQUIRE(write_file(file, two_conversations));
  const auto found = eval::read_conversations(file);
  REQUIRE(found);
  CHECK(found->at(0).source == "garden");
  CHECK(found->at(1).source == "talks");
  const auto no_tasks = eval::read_tasks(file);
  REQUIRE_FALSE(no_tasks);
  CHECK(no_tasks.error().message.starts_with(file.string() + ": "));
  CHECK(eval::read_tasks(directory.path() / "none").error().code == ErrorCode::not_found);
}

}  // namespace
}  // namespace krul
