"""An MCP client on the Python SDK that takes the steps of a plan, given as JSON
on standard input, and prints what came of each as a JSON array."""

import asyncio
import json
import sys

import mcp
from mcp import types

CALLS = {
    "tools/list": lambda s, p: s.list_tools(),
    "tools/call": lambda s, p: s.call_tool(p["name"], p.get("arguments")),
    "resources/list": lambda s, p: s.list_resources(),
    "resources/read": lambda s, p: s.read_resource(p["uri"]),
    "prompts/list": lambda s, p: s.list_prompts(),
    "prompts/get": lambda s, p: s.get_prompt(p["name"], p.get("arguments")),
}


async def sample(*_):
    text = types.TextContent(type="text", text="sampled by the client")
    return types.CreateMessageResult(role="assistant", content=text, model="none")


async def main():
    plan = json.load(sys.stdin)
    server = mcp.StdioServerParameters(command=plan["command"], args=plan["args"])
    report = []
    async with mcp.stdio_client(server) as (read, write):
        async with mcp.ClientSession(read, write, sampling_callback=sample) as session:
            await session.initialize()
            for step in plan["steps"]:
                try:
                    call = CALLS[step["method"]](session, step.get("params") or {})
                    result = await asyncio.wait_for(call, 20)
                    report.append({"result": result.model_dump(mode="json", by_alias=True, exclude_none=True)})
                except mcp.MCPError as error:
                    report.append({"error": {"code": error.error.code, "message": error.error.message}})
    json.dump(report, sys.stdout)


asyncio.run(main())
